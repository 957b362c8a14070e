//! Members that come, go and come again.

use std::fs;

use anyhow::{Context, Result, ensure};
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, MoveLeaderRequest,
};

use super::{Cluster, PATIENCE};

impl Cluster {
    /// The members by a linearizable list, from whoever answers.
    pub async fn members(&self) -> Result<Vec<Member>> {
        self.wait("a list of members", async || {
            let mut client = self.any_client().await.ok()?;
            let answer = client.cluster.member_list(MemberListRequest { linearizable: true }).await;
            Some(answer.ok()?.into_inner().members)
        })
        .await
    }

    /// Asks a member for another's removal, as often as it takes: shortly after a change of the
    /// membership or of the leader, or with a member missing, a cluster may find itself unhealthy.
    pub async fn remove(&self, by: usize, id: u64) -> Result<()> {
        self.wait("the removal", async || {
            let request = MemberRemoveRequest { id };
            let answer = self.client(by).await.ok()?.cluster.member_remove(request).await;
            // An earlier try may have done it.
            let gone = |status: &tonic::Status| status.message().contains("not found");
            answer.map_or_else(|status| gone(&status), |_| true).then_some(())
        })
        .await
    }

    /// Asks a member for the addition of the one at `place`; returns the new id.
    pub async fn add(&self, by: usize, place: usize, is_learner: bool) -> Result<u64> {
        let url = self.node(place).advertised_peer_url();
        self.wait("the addition", async || {
            let request = MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner };
            match self.client(by).await.ok()?.cluster.member_add(request).await {
                Ok(answer) => Some(answer.into_inner().member?.id),
                Err(_) => {
                    // An earlier try may have done it.
                    let members = self.members().await.ok()?;
                    members.iter().find(|member| member.peer_ur_ls.contains(&url)).map(|m| m.id)
                }
            }
        })
        .await
    }

    /// What an operator does about a member that has lost its data: it is removed, emptied, added
    /// and started. The new member has the same place, name and URLs; its id is new.
    pub async fn replace(&mut self, place: usize, by: usize) -> Result<u64> {
        let name = self.node(place).options().name.clone();
        self.kill(place)?;
        let members = self.members().await?;
        let old = members.iter().find(|member| member.name == name);
        let old = old.with_context(|| format!("{name} is not in the list of members"))?.id;
        self.remove(by, old).await?;
        self.wipe(place)?;
        let id = self.add(by, place, false).await?;
        ensure!(id != old, "the id {id:x} is used again");
        self.join(place)?;
        Ok(id)
    }

    /// Adds one more member and starts it; returns its place.
    pub async fn grow(&mut self, by: usize, is_learner: bool) -> Result<usize> {
        let place = self.nodes.len();
        self.prepare_node(place)?;
        self.add(by, place, is_learner).await?;
        self.join(place)?;
        Ok(place)
    }

    /// Asks the leader to hand over to the member at `place`, once.
    pub async fn move_leader(&self, place: usize) -> Result<()> {
        let target_id = self.id(place).await?;
        let leader = self.leader().await?;
        let mut request = tonic::Request::new(MoveLeaderRequest { target_id });
        request.set_timeout(PATIENCE);
        self.client(leader).await?.maintenance.move_leader(request).await?;
        Ok(())
    }

    /// Deletes the data of a member that does not run.
    pub fn wipe(&self, place: usize) -> Result<()> {
        let dir = self.node(place).data_dir();
        fs::remove_dir_all(&dir).with_context(|| format!("delete {}", dir.display()))
    }

    /// Starts a member that was added.
    fn join(&mut self, place: usize) -> Result<()> {
        let initial = self.initial_cluster(|_| true);
        let options = self.nodes[place].options_mut();
        options.initial_cluster = Some(initial);
        options.args.push("--initial-cluster-state=existing".to_owned());
        self.start_again(place)
    }
}
