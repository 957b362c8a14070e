//! etcd's feature gates: most of them switch something that kvd always or never does.

use super::{suggest, value};

/// What kvd does about a gate that is switched on.
enum Effect {
    /// Nothing, for this reason.
    None(&'static str),
    /// Somebody asks for it by name.
    Used,
    Refused,
}

const GATES: &[(&str, Effect)] = &[
    ("AllAlpha", Effect::None("kvd has no alpha features")),
    ("AllBeta", Effect::None("kvd has no beta features")),
    ("CompactHashCheck", Effect::Used),
    ("FastLeaseKeepAlive", Effect::None("keepalives share a round anyway")),
    ("InitialCorruptCheck", Effect::Used),
    ("LeaseCheckpoint", Effect::None("kvd needs no switch for it")),
    ("LeaseCheckpointPersist", Effect::None("kvd needs no switch for it")),
    ("PriorityRequest", Effect::None("kvd needs no switch for it")),
    ("SetMemberLocalAddr", Effect::Refused),
    ("StopGRPCServiceOnDefrag", Effect::None("defragmentation never stops the member")),
    ("TxnModeWriteWithSharedBuffer", Effect::None("kvd's reads do not copy a buffer")),
];

/// The options that became gates.
pub(super) const FORMER_OPTIONS: &[(&str, &str)] = &[
    ("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    ("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
];

/// Whether the text switches this gate, on or off.
pub(super) fn names(text: &str, gate: &str) -> bool {
    value::list(text).any(|word| word.split('=').next().is_some_and(|name| name.trim() == gate))
}

/// One note per gate that is known and switched on without effect.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for word in value::list(text) {
        let (name, on) = word
            .split_once('=')
            .ok_or_else(|| format!("\"{word}\" must have the form Gate=true or Gate=false"))?;
        let on = value::boolean(on.trim()).map_err(|why| format!("the gate {name} {why}"))?;
        let name = name.trim();
        let known = GATES.iter().find(|(gate, _)| *gate == name);
        match known.map(|(_, effect)| effect) {
            Some(Effect::Refused) if on => {
                return Err(format!(
                    "switches the gate {name} on, which is not supported: members call each other \
                     from the address that the system chooses"
                ));
            }
            Some(Effect::None(why)) if on => {
                notes.push(format!("the feature gate {name} has no effect: {why}"));
            }
            Some(_) => {}
            None => return Err(unknown(name)),
        }
    }
    Ok(notes)
}

/// Whether a gate was switched that way, in a text that parses; the last word counts.
pub(super) fn is_switched(text: &str, gate: &str, on: bool) -> bool {
    let words = value::list(text).filter_map(|word| word.split_once('='));
    let switched = words.filter(|(name, _)| name.trim() == gate).last();
    switched.is_some_and(|(_, value)| value::boolean(value.trim()) == Ok(on))
}

fn unknown(name: &str) -> String {
    match suggest::nearest(name, GATES.iter().map(|(gate, _)| *gate)) {
        Some(gate) => format!("there is no gate \"{name}\", did you mean {gate}?"),
        None => format!("there is no gate \"{name}\""),
    }
}
