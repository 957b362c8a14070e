//! `get`: a key, a range, a prefix; filtered, sorted, at a revision.

use std::ffi::OsString;

use clap::Args;
use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::cmd::int;
use crate::failure::{Exit, Failure};
use crate::format::{Answer, Format, Style, Subject};
use crate::keys::Keys;
use crate::options::GlobalArgs;
use crate::print;
use crate::session::{Call, Session};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl get [OPTIONS] <KEY> [RANGE_END]",
    after_help = "Examples:
  kvctl get name                        one key
  kvctl get --prefix /app/ --keys-only  all keys below /app/
  kvctl get a d -w json                 the keys a <= key < d
  kvctl get name --rev 17               what it was at revision 17"
)]
pub(crate) struct Get {
    /// Key, and the end of the range if it is one
    #[arg(value_name = "KEY [RANGE_END]", hide = true)]
    args: Vec<OsString>,
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l", value_name = "L|S")]
    consistency: String,
    /// Order of results; ASCEND or DESCEND (ASCEND by default)
    #[arg(long)]
    order: Option<String>,
    /// Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION
    #[arg(long, value_name = "TARGET")]
    sort_by: Option<String>,
    /// Maximum number of results (0: all)
    #[arg(long, default_value = "0", value_parser = int, hide_default_value = true)]
    limit: i64,
    /// Get keys with matching prefix
    #[arg(long)]
    prefix: bool,
    /// Get keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    from_key: bool,
    /// Specify the kv revision
    #[arg(long, default_value = "0", value_parser = int, hide_default_value = true)]
    rev: i64,
    /// Get only the keys
    #[arg(long)]
    keys_only: bool,
    /// Get only the count (with -w fields)
    #[arg(long)]
    count_only: bool,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    print_value_only: bool,
    /// Minimum create revision
    #[arg(long, default_value = "0", value_parser = int, value_name = "REV", hide_default_value = true)]
    min_create_rev: i64,
    /// Maximum create revision
    #[arg(long, default_value = "0", value_parser = int, value_name = "REV", hide_default_value = true)]
    max_create_rev: i64,
    /// Minimum modification revision
    #[arg(long, default_value = "0", value_parser = int, value_name = "REV", hide_default_value = true)]
    min_mod_rev: i64,
    /// Maximum modification revision
    #[arg(long, default_value = "0", value_parser = int, value_name = "REV", hide_default_value = true)]
    max_mod_rev: i64,
}

impl Get {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let request = self.request()?;
        let options = globals.resolve()?;
        let style = self.style(options.style)?;
        let mut session = Session::open(options).await?;
        let response = session.call(Call::Read, |to| {
            let request = request.clone();
            async move { to.kv().range(request).await }
        });
        print::answer(style, &Answer::Get(&response.await?))
    }

    /// Some flags go with one output format only.
    fn style(&self, style: Style) -> Result<Style, Failure> {
        style.check(Subject::Keys)?;
        if self.count_only && style.format != Format::Fields {
            return Err(Failure::bad_arguments(
                "--count-only is only for `--write-out=fields`; add -w fields",
            ));
        }
        if self.print_value_only && style.format != Format::Simple {
            return Err(Failure::bad_arguments(
                "print-value-only is only for `--write-out=simple`; drop --print-value-only or -w",
            ));
        }
        Ok(Style { value_only: self.print_value_only, ..style })
    }

    /// The request, or what is wrong with the arguments, checked in etcdctl's order.
    pub(super) fn request(&self) -> Result<RangeRequest, Failure> {
        if self.args.is_empty() {
            return Err(Failure::bad_arguments(
                "get command needs one argument as key and an optional argument as range_end; \
                 see 'kvctl get --help'",
            ));
        }
        one_of("--prefix", self.prefix, "--from-key", self.from_key)?;
        one_of("--keys-only", self.keys_only, "--count-only", self.count_only)?;
        let serializable = match self.consistency.as_str() {
            "l" => false,
            "s" => true,
            other => {
                return Err(bad_feature(format!(
                    "unknown consistency flag {other:?}; pass l or s"
                )));
            }
        };
        let keys = Keys::of(&self.args, self.prefix, self.from_key)?;
        let sort_target = self.sort_target()?;
        bounds("CreateRev", self.min_create_rev, self.max_create_rev)?;
        bounds("ModRev", self.min_mod_rev, self.max_mod_rev)?;
        Ok(RangeRequest {
            key: keys.key,
            range_end: keys.range_end,
            limit: self.limit,
            revision: self.rev.max(0),
            sort_order: self.sort_order(sort_target)?.into(),
            sort_target: sort_target.into(),
            serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev.max(0),
            max_mod_revision: self.max_mod_rev.max(0),
            min_create_revision: self.min_create_rev.max(0),
            max_create_revision: self.max_create_rev.max(0),
        })
    }

    fn sort_order(&self, target: SortTarget) -> Result<SortOrder, Failure> {
        let order = self.order.as_deref().unwrap_or_default();
        match order.to_uppercase().as_str() {
            "" => Ok(SortOrder::None),
            // Keys come ascending anyway; so does Go's client ask for them.
            "ASCEND" if target == SortTarget::Key => Ok(SortOrder::None),
            "ASCEND" => Ok(SortOrder::Ascend),
            "DESCEND" => Ok(SortOrder::Descend),
            _ => Err(bad_feature(format!("bad sort order {order}; pass ASCEND or DESCEND"))),
        }
    }

    fn sort_target(&self) -> Result<SortTarget, Failure> {
        let target = self.sort_by.as_deref().unwrap_or_default();
        match target.to_uppercase().as_str() {
            "" | "KEY" => Ok(SortTarget::Key),
            "CREATE" => Ok(SortTarget::Create),
            "MODIFY" => Ok(SortTarget::Mod),
            "VALUE" => Ok(SortTarget::Value),
            "VERSION" => Ok(SortTarget::Version),
            _ => Err(bad_feature(format!(
                "bad sort target {target}; pass CREATE, KEY, MODIFY, VALUE or VERSION"
            ))),
        }
    }
}

/// At most one of two flags.
pub(super) fn one_of(a: &str, a_set: bool, b: &str, b_set: bool) -> Result<(), Failure> {
    if a_set && b_set {
        return Err(Failure::bad_arguments(format!(
            "`{a}` and `{b}` cannot be set at the same time, choose one"
        )));
    }
    Ok(())
}

fn bounds(name: &str, min: i64, max: i64) -> Result<(), Failure> {
    if max > 0 && min > max {
        return Err(bad_feature(format!("getMin{name}(={min}) > getMax{name}(={max}); swap them")));
    }
    Ok(())
}

fn bad_feature(message: String) -> Failure {
    Failure::new(Exit::BadFeature, message)
}
