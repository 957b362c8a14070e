//! kvd and the real etcd, asked the same, answer the same; the short run. The long one is
//! `cargo run -p kvd-tests --bin differential`.

use harness::differential::{Plan, run};
use harness::{Target, etcd_is_required};

/// Always the same steps here: other ones are for long runs. None without a real etcd, unless it
/// is required.
fn plan(right: Target) -> Option<Plan> {
    (Target::Etcd.is_built() || etcd_is_required()).then(|| Plan {
        left: Target::Etcd,
        right,
        right_args: Vec::new(),
        seed: 1,
        steps: 2000,
        shrink_runs_max: 20,
        progress: |_| {},
    })
}

#[test]
fn kvd_answers_two_thousand_random_steps_as_etcd_does() {
    let Some(plan) = plan(Target::Kvd) else { return };
    match run(&plan).unwrap() {
        Ok(compared) => {
            for kind in [
                "put",
                "range",
                "del",
                "txn",
                "compact",
                "hashkv",
                "watch events",
                "lock",
                "campaign",
                "alarm",
                "members",
                "json",
            ] {
                assert!(compared.contains_key(kind), "no {kind} among {compared:?}");
            }
        }
        Err(difference) => panic!("seed {}: {difference}", plan.seed),
    }
}

/// A comparison that cannot fail proves nothing: an etcd with one rule changed is found out, and
/// few steps are left to show it.
#[test]
fn a_server_with_another_rule_is_found_out() {
    let Some(mut plan) = plan(Target::Etcd) else { return };
    plan.right_args = vec!["--max-txn-ops=6".to_owned()];
    let difference = run(&plan).unwrap().unwrap_err();
    assert!(difference.what.contains("too many operations"), "{difference}");
    assert!(difference.steps.len() <= 5, "{difference}");
}
