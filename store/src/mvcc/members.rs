//! The members as clients see them: ids and first peer URLs come with a membership, names and
//! client URLs are announced by the members themselves, later peer URLs by whoever moves them.

use bytes::Bytes;
use proto::internal;

use super::meta::Member;
use super::state::State;
use super::store::Store;
use crate::{LogId, Refusal};

/// The bucket of an etcd snapshot that lists who was removed, by id in hexadecimal digits.
const REMOVED: &str = "members_removed";

/// Takes over a new membership; what is known of members that stay is kept, and those that go are
/// remembered for ever, as an id is never used again.
pub(super) fn change(state: &mut State, id: LogId, membership: &internal::Membership) {
    let votes = |id| membership.configs.iter().any(|config| config.ids.contains(&id));
    let mut known = std::mem::take(&mut state.members);
    let member = |node: &internal::MemberNode| {
        let at = known.iter().position(|known| known.id == node.id);
        let new = || Member {
            id: node.id,
            name: node.name.clone(),
            peer_urls: node.peer_urls.clone(),
            ..Member::default()
        };
        Member {
            is_learner: !votes(node.id) && !node.to_vote,
            ..at.map(|at| known.swap_remove(at)).unwrap_or_else(new)
        }
    };
    state.members = membership.nodes.iter().map(member).collect();
    for gone in known {
        let removed = state.tables.entry(REMOVED.into()).or_default();
        removed.insert(removed_key(gone.id), Bytes::from_static(b"removed"));
    }
    state.membership = Some((id, membership.clone()));
}

/// A member tells its name, its log, and where clients reach it. One that comes with another log has
/// lost the first, and is not believed.
pub(super) fn describe(state: &mut State, attributes: &internal::MemberAttributes) {
    let known = state.members.iter_mut().find(|member| member.id == attributes.id);
    if let Some(member) = known.filter(|member| [0, attributes.log].contains(&member.log)) {
        member.name.clone_from(&attributes.name);
        member.client_urls.clone_from(&attributes.client_urls);
        member.log = attributes.log;
    }
}

/// A member is to be reached elsewhere.
pub(super) fn update(state: &mut State, update: &internal::MemberUpdate) -> Result<(), Refusal> {
    let (mut own, others): (Vec<_>, Vec<_>) =
        state.members.iter_mut().partition(|member| member.id == update.id);
    let member = own.first_mut().ok_or(Refusal::MemberNotFound)?;
    let taken = |url| others.iter().any(|other| other.peer_urls.contains(url));
    if update.peer_urls.iter().any(taken) {
        return Err(Refusal::PeerUrlExists);
    }
    member.peer_urls.clone_from(&update.peer_urls);
    Ok(())
}

impl Store {
    /// Whether a member has this id.
    pub fn is_member(&self, id: u64) -> bool {
        self.state().members.iter().any(|member| member.id == id)
    }

    /// Whether there is a member. One that joins knows of none until it hears from the cluster.
    pub fn has_members(&self) -> bool {
        !self.state().members.is_empty()
    }

    /// Whether this member is one that does not vote.
    pub fn is_learner(&self, id: u64) -> bool {
        self.state().members.iter().any(|member| member.id == id && member.is_learner)
    }

    /// Which log a member votes and acknowledges by; 0 if it is no member or did not say so yet.
    pub fn log_of(&self, id: u64) -> u64 {
        let state = self.state();
        state.members.iter().find(|member| member.id == id).map_or(0, |member| member.log)
    }

    /// Whether a member with this id was removed from the cluster.
    pub fn is_removed(&self, id: u64) -> bool {
        let state = self.state();
        state.tables.get(REMOVED).is_some_and(|removed| removed.contains_key(&removed_key(id)))
    }
}

fn removed_key(id: u64) -> Bytes {
    Bytes::from(format!("{id:x}"))
}
