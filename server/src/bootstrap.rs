//! Who this member is: as its data directory says, else as the initial cluster options say.
//!
//! ```text
//!  data directory   --initial-cluster-state   identity from                 raft begins with
//!  in use           ignored                   the directory                 its log
//!  empty            new                       hashes over the options       all founders
//!  empty            existing                  the members that run          nothing: the leader tells
//! ```
//! A member that starts empty asks the others first. What it once voted for and acknowledged is
//! lost with its data, so it must not go on under an id that the cluster has seen at work.

mod ask;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::{anyhow, bail, ensure};

use self::ask::{Asked, ask};
use crate::api::Identity;
use crate::config::{ClusterState, Config, InitialMember, Url, ids};
use crate::limits;
use crate::listen::Bound;
use crate::pages::ListedMember;
use crate::raft::types::Node;
use crate::tls::Connector;

/// Where a member comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub identity: Identity,
    /// The members of a new cluster, the same on each of them. None: there is a cluster already.
    pub founders: Option<BTreeMap<u64, Node>>,
}

/// `known` is what the data directory says, `begun` whether its log holds anything. Peers who come
/// to `listeners` meanwhile find nobody yet.
pub fn origin(
    config: &Config,
    known: Option<Identity>,
    begun: bool,
    (listeners, connector): (&[Bound], &Arc<Connector>),
) -> anyhow::Result<Origin> {
    let Some(identity) = known else { return first_start(config, listeners, connector) };
    let described = own(config).map(|own| described(config, own)).ok();
    let same = described.as_ref().is_some_and(|described| described.identity == identity);
    if !same && config.initial_cluster_state == ClusterState::New {
        tracing::info!(
            "the data directory belongs to member {:x} of cluster {:x}: the initial cluster \
             options, which say otherwise, are ignored",
            identity.member_id,
            identity.cluster_id
        );
    }
    // A founder that was stopped before its log began has the cluster to found still.
    let unfinished = same && !begun && config.initial_cluster_state == ClusterState::New;
    let founders = described.filter(|_| unfinished).and_then(|described| described.founders);
    Ok(Origin { identity, founders })
}

/// What a first start would find wrong with the list of members by itself, without asking anybody.
///
/// # Errors
/// As `origin`'s.
pub fn check_list(config: &Config) -> anyhow::Result<()> {
    match config.initial_cluster_state {
        ClusterState::New => founding(config).map(drop),
        ClusterState::Existing => some_others(config).map(drop),
    }
}

fn first_start(
    config: &Config,
    listeners: &[Bound],
    connector: &Arc<Connector>,
) -> anyhow::Result<Origin> {
    match config.initial_cluster_state {
        ClusterState::New => {
            let founding = founding(config)?;
            let asked = ask(others(config)?, limits::BOOTSTRAP_TIMEOUT, listeners, connector)?;
            check_unknown(config, founding.identity, &asked)?;
            Ok(founding)
        }
        ClusterState::Existing => {
            let asked = ask(some_others(config)?, limits::JOIN_TIMEOUT, listeners, connector)?;
            Ok(Origin { identity: join(config, &asked)?, founders: None })
        }
    }
}

/// The cluster that the options describe, if they may.
fn founding(config: &Config) -> anyhow::Result<Origin> {
    let own = own(config)?;
    if !same_urls(&texts(&own.peer_urls), &texts(&config.initial_advertise_peer_urls)) {
        bail!(
            "{}: it gives \"{}\" the URLs {}, but --initial-advertise-peer-urls says {}; give both \
             the same URLs",
            config.initial_cluster_origin,
            own.name,
            join_urls(&own.peer_urls),
            join_urls(&config.initial_advertise_peer_urls),
        );
    }
    Ok(described(config, own))
}

/// As etcd's, the ids are hashes over what every member is told alike.
fn described(config: &Config, own: &InitialMember) -> Origin {
    let id =
        |member: &InitialMember| ids::member_id(&member.peer_urls, &config.initial_cluster_token);
    let founders: BTreeMap<u64, Node> = config
        .initial_cluster
        .iter()
        .map(|member| {
            let (name, peer_urls) = (member.name.clone(), texts(&member.peer_urls));
            (id(member), Node { name, peer_urls, to_vote: false })
        })
        .collect();
    let cluster_id = ids::cluster_id(founders.keys().copied());
    Origin { identity: Identity { cluster_id, member_id: id(own) }, founders: Some(founders) }
}

/// This member in the list, which is checked on the way.
fn own(config: &Config) -> anyhow::Result<&InitialMember> {
    let (list, option) = (&config.initial_cluster, &config.initial_cluster_origin);
    ensure!(
        !list.is_empty(),
        "{option}: it names no member; write name=http://host:port for each, or leave it out for \
         a member alone"
    );
    let mut seen: BTreeMap<&Url, &str> = BTreeMap::new();
    for member in list {
        for url in &member.peer_urls {
            if let Some(other) = seen.insert(url, &member.name) {
                bail!(
                    "{option}: it has {url} twice, for \"{other}\" and for \"{}\"; give every \
                     member URLs of its own",
                    member.name
                );
            }
        }
    }
    list.iter().find(|member| member.name == config.name).ok_or_else(|| {
        let names: Vec<&str> = list.iter().map(|member| member.name.as_str()).collect();
        anyhow!(
            "{option}: it does not name this member, \"{}\", only {}; set --name to one of them, \
             or add this member",
            config.name,
            names.join(", ")
        )
    })
}

/// Where the other members of the list can be asked.
fn others(config: &Config) -> anyhow::Result<Vec<Url>> {
    let own = own(config)?;
    let others = config.initial_cluster.iter().filter(|member| member.name != own.name);
    Ok(others.flat_map(|member| member.peer_urls.clone()).collect())
}

/// The same, of which a member that joins must know one.
fn some_others(config: &Config) -> anyhow::Result<Vec<Url>> {
    let others = others(config)?;
    ensure!(
        !others.is_empty(),
        "{}: it names this member only; to join a cluster, name all of its members, as \
         `kvctl member add` prints them",
        config.initial_cluster_origin
    );
    Ok(others)
}

/// A founder must be new to everybody that runs already.
fn check_unknown(config: &Config, own: Identity, asked: &Asked) -> anyhow::Result<()> {
    let Identity { cluster_id, member_id } = own;
    let add = add_command(config);
    for answer in &asked.answers {
        let from = &answer.from;
        ensure!(
            answer.cluster_id == cluster_id,
            "{}: {from} is a member of the running cluster {:x}, but the list and \
             --initial-cluster-token make cluster {cluster_id:x}; correct them, or, to join that \
             cluster, {add}",
            config.initial_cluster_origin,
            answer.cluster_id,
        );
        match answer.members.iter().find(|member| member.id == member_id) {
            Some(member) if member.has_started() => bail!(
                "member {member_id:x} has already been bootstrapped: {from} has seen it at work, \
                 and its data is gone; remove it (kvctl member remove {member_id:x}), then {add}"
            ),
            // Nobody listed: the other has not heard of any founder yet.
            None if !answer.members.is_empty() => bail!(
                "member {member_id:x} is no member of cluster {cluster_id:x}: {from} does not list \
                 it, so it was removed; {add}"
            ),
            _ => {}
        }
    }
    Ok(())
}

/// The identity that a running cluster holds ready for this member.
fn join(config: &Config, asked: &Asked) -> anyhow::Result<Identity> {
    let Some(first) = asked.answers.iter().find(|answer| !answer.members.is_empty()) else {
        bail!(
            "{}: no other member of it says who is in the cluster ({}); start them, or correct \
             their URLs",
            config.initial_cluster_origin,
            asked.silent.join("; ")
        );
    };
    if let Some(other) = asked.answers.iter().find(|it| it.cluster_id != first.cluster_id) {
        bail!(
            "{}: {} is a member of cluster {:x}, but {} of cluster {:x}; name the members of one \
             cluster",
            config.initial_cluster_origin,
            first.from,
            first.cluster_id,
            other.from,
            other.cluster_id
        );
    }
    if let Some(foreign) = asked.answers.iter().find(|answer| !answer.is_kvd) {
        bail!(
            "{}: {} is not a kvd, and a cluster cannot be mixed; start new members without it, \
             from a snapshot of its data",
            config.initial_cluster_origin,
            foreign.from
        );
    }
    // A member that lags may not have heard of this one; one that has is enough.
    let mut matched = asked.answers.iter().map(|answer| match_members(config, answer));
    let member = match matched.find(|result| result.is_ok()) {
        Some(member) => member,
        None => match_members(config, first),
    }?;
    let member_id = member.id;
    ensure!(
        !member.has_started(),
        "member {member_id:x} has already been bootstrapped: {} has seen it at work, and its data \
         is gone; remove it (kvctl member remove {member_id:x}), then {}",
        first.from,
        add_command(config)
    );
    Ok(Identity { cluster_id: first.cluster_id, member_id })
}

/// The list and the cluster must have the same members, told by their peer URLs.
fn match_members<'a>(config: &Config, answer: &'a ask::Answer) -> anyhow::Result<&'a ListedMember> {
    let own = own(config)?;
    let (list, option) = (&config.initial_cluster, &config.initial_cluster_origin);
    let mut found = None;
    for member in &answer.members {
        let same =
            |listed: &&InitialMember| same_urls(&texts(&listed.peer_urls), &member.peer_urls);
        match list.iter().find(same) {
            Some(listed) if listed.name == own.name => found = Some(member),
            Some(_) => {}
            None => bail!(
                "{option}: it has no member with the URLs {} of member {:x}, which {} lists; \
                 add that member to it, or correct its URLs",
                member.peer_urls.join(","),
                member.id,
                answer.from
            ),
        }
    }
    let Some(member) = found else {
        bail!(
            "{option}: \"{}\" with the URLs {} is no member of cluster {:x}, as {} says; first {}",
            own.name,
            join_urls(&own.peer_urls),
            answer.cluster_id,
            answer.from,
            add_command(config)
        );
    };
    ensure!(
        list.len() == answer.members.len(),
        "{option}: it names {} members, but {} lists {}; name exactly those",
        list.len(),
        answer.from,
        answer.members.len()
    );
    Ok(member)
}

/// How a member without data gets into a cluster.
fn add_command(config: &Config) -> String {
    format!(
        "add it (kvctl member add {} --peer-urls={}) and start it with an empty data directory \
         and --initial-cluster-state=existing",
        config.name,
        join_urls(&config.initial_advertise_peer_urls)
    )
}

/// The same as text, in any order, or the same once names are resolved to addresses.
fn same_urls(one: &[String], other: &[String]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    if sorted(one) == sorted(other) {
        return true;
    }
    let reached =
        |urls: &[String]| urls.iter().map(|url| addresses(url)).collect::<Option<Vec<_>>>();
    let (Some(one), Some(mut other)) = (reached(one), reached(other)) else { return false };
    // Each takes its counterpart away, so none is counted twice.
    one.len() == other.len()
        && one.iter().all(|Place { ips, port, tls }| {
            let same = |other: &Place| {
                (other.port, other.tls) == (*port, *tls)
                    && other.ips.iter().any(|ip| ips.contains(ip))
            };
            other.iter().position(same).map(|at| other.swap_remove(at)).is_some()
        })
}

/// Where a URL leads.
struct Place {
    ips: Vec<IpAddr>,
    port: u16,
    tls: bool,
}

/// None if it cannot be used or its name is not known.
fn addresses(url: &str) -> Option<Place> {
    let url = Url::parse(url).ok()?;
    let found = (url.host(), url.port()).to_socket_addrs().ok()?;
    let ips = found.map(|address| address.ip()).collect();
    Some(Place { ips, port: url.port(), tls: url.is_tls() })
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn join_urls(urls: &[Url]) -> String {
    texts(urls).join(",")
}
