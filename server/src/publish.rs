//! A member tells the cluster its name and where clients reach it, once it has a leader.

use std::time::Duration;

use proto::internal::{MemberAttributes, command::Op};

use crate::replica::{Replica, Unavailable};

/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Returns once the member list says what `attributes` says, or when consensus stopped.
pub async fn publish(replica: Replica, attributes: MemberAttributes) {
    replica.wait_led().await;
    while !is_known(&replica, &attributes) {
        match replica.propose(Op::MemberAttributes(attributes.clone())).await {
            Ok(_) => return,
            Err(Unavailable::Stopped) => return,
            Err(why) => {
                tracing::debug!(?why, "announcing this member's name: trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

fn is_known(replica: &Replica, attributes: &MemberAttributes) -> bool {
    replica.store().members().iter().any(|member| {
        member.id == attributes.id
            && member.name == attributes.name
            && member.client_urls == attributes.client_urls
            && member.log == attributes.log
    })
}
