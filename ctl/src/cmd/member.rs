//! `member list|add|remove|update|promote`: who belongs to the cluster.

use clap::{Args, Subcommand};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::MemberListResponse;

use crate::failure::{Exit, Failure};
use crate::format::{Answer, MemberAdded, MemberChanged, Style, Subject};
use crate::options::GlobalArgs;
use crate::session::{Call, Session};
use crate::{go, print};

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "A dead member is replaced in this order: remove it, add the new one, start the new one with the
variables that 'add' prints and an empty data directory.

Examples:
  kvctl member list -w table
  kvctl member add pi4 --peer-urls http://pi4:2380 --learner
  kvctl member promote 8211f1d0f64f3269
  kvctl member remove 8211f1d0f64f3269"
)]
pub(crate) struct Member {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Adds a member into the cluster
    ///
    /// With --write-out simple, the environment that the new member is to be started with is printed.
    #[command(override_usage = "kvctl member add [OPTIONS] <NAME>")]
    Add {
        #[arg(value_name = "NAME", hide = true)]
        args: Vec<String>,
        /// Peer URLs of the new member, separated by commas
        #[arg(long, value_name = "URLS")]
        peer_urls: Option<String>,
        /// The new member has no vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Removes a member from the cluster
    #[command(override_usage = "kvctl member remove [OPTIONS] <ID>")]
    Remove {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
    },
    /// Updates the peer URLs of a member
    #[command(override_usage = "kvctl member update [OPTIONS] <ID>")]
    Update {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
        /// Peer URLs of the member from now on, separated by commas
        #[arg(long, value_name = "URLS")]
        peer_urls: Option<String>,
    },
    /// Lists all members in the cluster
    ///
    /// With --write-out simple, a line has these items: ID, status, name, peer addresses, client
    /// addresses, is learner.
    List {
        #[arg(hide = true)]
        args: Vec<String>,
        /// Linearizable (l), or what the asked member knows (s)
        #[arg(long, default_value = "l", hide_default_value = true)]
        consistency: String,
    },
    /// Promotes a learner to a voting member
    #[command(override_usage = "kvctl member promote [OPTIONS] <ID>")]
    Promote {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
    },
}

impl Member {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self.what {
            None => super::help("member"),
            Some(What::Add { args, peer_urls, learner }) => {
                add(globals, &args, peer_urls, learner).await
            }
            Some(What::Remove { args }) => remove(globals, &args).await,
            Some(What::Update { args, peer_urls }) => update(globals, &args, peer_urls).await,
            Some(What::List { args, consistency }) => {
                super::note_ignored(&args, "all members are listed");
                list(globals, &consistency).await
            }
            Some(What::Promote { args }) => promote(globals, &args).await,
        }
    }
}

async fn add(
    globals: &GlobalArgs,
    args: &[String],
    peer_urls: Option<String>,
    is_learner: bool,
) -> Result<(), Failure> {
    let name = match args {
        [name] => name.clone(),
        [] => {
            return Err(Failure::bad_arguments(
                "member name not provided; write it as kvctl member add NAME --peer-urls URLS",
            ));
        }
        _ => {
            let url = args.iter().find(|arg| arg.to_lowercase().starts_with("http"));
            let meant = url.map_or("pass one name".to_owned(), |url| {
                format!("did you mean --peer-urls={url}?")
            });
            return Err(Failure::bad_arguments(format!("too many arguments; {meant}")));
        }
    };
    let peer_urls = required(peer_urls)?;
    let (style, mut session) = open(globals, Subject::Change, Some(&peer_urls)).await?;
    let request = pb::MemberAddRequest { peer_ur_ls: split(&peer_urls), is_learner };
    let call = session.call(Call::Write, |to| {
        let request = request.clone();
        async move { to.cluster().member_add(request).await }
    });
    let response = call.await?;
    print::answer(style, &Answer::MemberAdded(&MemberAdded { name, peer_urls, response }))
}

async fn remove(globals: &GlobalArgs, args: &[String]) -> Result<(), Failure> {
    let id = id_of(args)?;
    let (style, mut session) = open(globals, Subject::Change, None).await?;
    let request = pb::MemberRemoveRequest { id };
    let call =
        session.call(Call::Write, |to| async move { to.cluster().member_remove(request).await });
    let pb::MemberRemoveResponse { header, members } = call.await?;
    changed(style, id, "removed from", MemberListResponse { header, members })
}

async fn update(
    globals: &GlobalArgs,
    args: &[String],
    peer_urls: Option<String>,
) -> Result<(), Failure> {
    let id = id_of(args)?;
    let peer_urls = required(peer_urls)?;
    let (style, mut session) = open(globals, Subject::Change, Some(&peer_urls)).await?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls: split(&peer_urls) };
    let call = session.call(Call::Write, |to| {
        let request = request.clone();
        async move { to.cluster().member_update(request).await }
    });
    let pb::MemberUpdateResponse { header, members } = call.await?;
    changed(style, id, "updated in", MemberListResponse { header, members })
}

async fn promote(globals: &GlobalArgs, args: &[String]) -> Result<(), Failure> {
    let id = id_of(args)?;
    let (style, mut session) = open(globals, Subject::Change, None).await?;
    let request = pb::MemberPromoteRequest { id };
    let call =
        session.call(Call::Write, |to| async move { to.cluster().member_promote(request).await });
    let pb::MemberPromoteResponse { header, members } = call.await?;
    changed(style, id, "promoted in", MemberListResponse { header, members })
}

async fn list(globals: &GlobalArgs, consistency: &str) -> Result<(), Failure> {
    let linearizable = match consistency {
        "l" => true,
        "s" => false,
        other => {
            return Err(Failure::new(
                Exit::BadFeature,
                format!("unknown consistency flag {other:?}; pass --consistency=l or s"),
            ));
        }
    };
    let (style, mut session) = open(globals, Subject::Members, None).await?;
    let members = members(&mut session, linearizable).await?;
    print::answer(style, &Answer::Members(&members))
}

/// The members as the cluster knows them, or as the endpoint does.
pub(super) async fn members(
    session: &mut Session,
    linearizable: bool,
) -> Result<MemberListResponse, Failure> {
    let request = pb::MemberListRequest { linearizable };
    let call =
        session.call(Call::Read, |to| async move { to.cluster().member_list(request).await });
    call.await
}

/// Checks what is left to check in etcdctl's order, then connects.
async fn open(
    globals: &GlobalArgs,
    subject: Subject,
    peer_urls: Option<&str>,
) -> Result<(Style, Session), Failure> {
    let options = globals.resolve()?;
    for url in peer_urls.map(split).unwrap_or_default() {
        check_url(&url)?;
    }
    let style = options.style;
    style.check(subject)?;
    Ok((style, Session::open(options).await?))
}

fn changed(
    style: Style,
    id: u64,
    what: &'static str,
    members: MemberListResponse,
) -> Result<(), Failure> {
    print::answer(style, &Answer::MemberChanged(&MemberChanged { id, what, members }))
}

fn id_of(args: &[String]) -> Result<u64, Failure> {
    let [id] = args else {
        return Err(Failure::bad_arguments(
            "member ID is not provided; pass one ID as 'kvctl member list' prints it",
        ));
    };
    go::parse_uint(id).map_err(|why| {
        Failure::bad_arguments(format!(
            "bad member ID arg ({why}), expecting ID in Hex; \
             pass it as 'kvctl member list' prints it, without 0x"
        ))
    })
}

fn required(peer_urls: Option<String>) -> Result<String, Failure> {
    peer_urls.filter(|urls| !urls.is_empty()).ok_or_else(|| {
        Failure::bad_arguments(
            "member peer urls not provided; pass --peer-urls http://host:2380 (several with commas)",
        )
    })
}

fn split(urls: &str) -> Vec<String> {
    urls.split(',').map(str::to_owned).collect()
}

/// What etcd's client checks before it asks the server, which checks again.
fn check_url(written: &str) -> Result<(), Failure> {
    let url = written.trim();
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let why = match scheme.to_ascii_lowercase().as_str() {
        "unix" | "unixs" => return Ok(()),
        "http" | "https" => {
            let address = rest.strip_prefix("//").unwrap_or_default();
            let end = address.find(['/', '?', '#']).unwrap_or(address.len());
            let (host, path) = address.split_at(end);
            if path.starts_with('/') {
                "it must not contain a path"
            } else if host.rsplit_once(':').is_none_or(|(_, port)| !is_port(port)) {
                "it does not have the form host:port"
            } else {
                return Ok(());
            }
        }
        _ => "its scheme must be http, https, unix, or unixs",
    };
    let message = format!("cannot use {url:?} as a peer URL: {why}; write it as http://host:2380");
    Err(Failure::new(Exit::Error, message))
}

/// As in Go, no port is a port.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_as_in_etcdctl() {
        let good = [
            "http://a:1",
            " https://a:1",
            "HTTP://[::1]:2380",
            "http://:2380",
            "http://a:",
            "http://a:1?b",
            "unix:///run/a",
            "unixs:a",
        ];
        for url in good {
            assert!(check_url(url).is_ok(), "{url}");
        }
        let bad = [
            "",
            "a",
            "a:1",
            "http:",
            "http:/a:1",
            "http://",
            "http://a",
            "http://[::1]",
            "http://a:b",
            "http://a:1/",
            "http://a:1/b",
            "ftp://a:1",
        ];
        for url in bad {
            assert_eq!(check_url(url).unwrap_err().exit, Exit::Error, "{url}");
        }
    }
}
