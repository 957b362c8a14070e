//! The members as clients see them: ids and peer URLs come with a membership, names and client
//! URLs are announced by the members themselves.

use proto::internal;

use super::meta::Member;
use super::state::State;
use super::store::Store;
use crate::LogId;

/// Takes over a new membership; what is known of members that stay is kept.
pub(super) fn change(state: &mut State, id: LogId, membership: &internal::Membership) {
    let votes = |id| membership.configs.iter().any(|config| config.ids.contains(&id));
    let mut known = std::mem::take(&mut state.members);
    let member = |node: &internal::MemberNode| {
        let known = known.iter_mut().find(|known| known.id == node.id).map(std::mem::take);
        let new = || Member {
            id: node.id,
            name: node.name.clone(),
            peer_urls: node.peer_urls.clone(),
            ..Member::default()
        };
        Member { is_learner: !votes(node.id), ..known.unwrap_or_else(new) }
    };
    state.members = membership.nodes.iter().map(member).collect();
    state.membership = Some((id, membership.clone()));
}

/// A member tells its name and where clients reach it.
pub(super) fn describe(state: &mut State, attributes: &internal::MemberAttributes) {
    if let Some(member) = state.members.iter_mut().find(|member| member.id == attributes.id) {
        member.name.clone_from(&attributes.name);
        member.client_urls.clone_from(&attributes.client_urls);
    }
}

/// The bucket of an etcd snapshot that lists who was removed, by id in hex.
const REMOVED: &str = "members_removed";

impl Store {
    /// Whether this member is one that does not vote.
    pub fn is_learner(&self, id: u64) -> bool {
        self.state().members.iter().any(|member| member.id == id && member.is_learner)
    }

    /// Whether a member with this id was removed from the cluster.
    pub fn is_removed(&self, id: u64) -> bool {
        let state = self.state();
        let removed = state.tables.get(REMOVED);
        removed.is_some_and(|removed| removed.contains_key(format!("{id:x}").as_bytes()))
    }
}
