//! Commands of a script as requests. Nothing is validated: scripts send invalid requests as well.

use anyhow::{Context, Result, bail, ensure};
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, DowngradeRequest, HashKvRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

use super::lex::Token;

/// The words and options behind a command's name; what is left over at the end is a mistake.
pub(crate) struct Args<'a> {
    words: std::collections::VecDeque<Vec<u8>>,
    options: Vec<(String, Vec<u8>)>,
    pub(crate) groups: Vec<&'a [Token]>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(tokens: &'a [Token]) -> Self {
        let mut args = Self { words: Default::default(), options: Vec::new(), groups: Vec::new() };
        for token in tokens {
            match token {
                Token::Word(word) => args.words.push_back(word.clone()),
                Token::Option(name, value) => args.options.push((name.clone(), value.clone())),
                Token::Group(tokens) => args.groups.push(tokens),
            }
        }
        args
    }

    pub(crate) fn word(&mut self) -> Result<Vec<u8>> {
        self.words.pop_front().context("a word is missing")
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.word()?)?)
    }

    pub(crate) fn number(&mut self) -> Result<i64> {
        let text = self.text()?;
        text.parse().with_context(|| format!("'{text}' is not a number"))
    }

    /// Whether the word is there; flags come after all other words.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| word == name.as_bytes());
        at.is_some_and(|at| self.words.remove(at).is_some())
    }

    fn option(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.options.iter().position(|(option, _)| option == name)?;
        Some(self.options.remove(at).1)
    }

    /// A number, or 0 if the option is not there.
    pub(crate) fn int(&mut self, name: &str) -> Result<i64> {
        let Some(value) = self.option(name) else { return Ok(0) };
        let text = String::from_utf8(value)?;
        text.parse().with_context(|| format!("{name}={text} is not a number"))
    }

    /// A name of `names` by its position, or a number that may be no valid one.
    fn choice(&mut self, name: &str, names: &[&str]) -> Result<i32> {
        let Some(value) = self.option(name) else { return Ok(0) };
        choice(std::str::from_utf8(&value)?, names)
    }

    pub(crate) fn end(self) -> Result<()> {
        ensure!(self.words.is_empty(), "left over: {:?}", self.words);
        ensure!(self.options.is_empty(), "unknown options: {:?}", self.options);
        Ok(())
    }
}

fn choice(text: &str, names: &[&str]) -> Result<i32> {
    if let Some(at) = names.iter().position(|known| *known == text) {
        return Ok(i32::try_from(at)?);
    }
    text.parse().with_context(|| format!("'{text}' is none of {names:?} and no number"))
}

pub(crate) fn put(mut args: Args<'_>) -> Result<PutRequest> {
    let prev_kv = args.flag("prev_kv");
    let ignore_value = args.flag("ignore_value");
    let ignore_lease = args.flag("ignore_lease");
    let lease = args.int("lease")?;
    let fill = usize::try_from(args.int("fill")?)?;
    let key = args.word()?;
    let value = if fill > 0 { vec![b'x'; fill] } else { args.word()? };
    args.end()?;
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

pub(crate) fn range(mut args: Args<'_>) -> Result<RangeRequest> {
    let request = RangeRequest {
        limit: args.int("limit")?,
        revision: args.int("rev")?,
        sort_order: args.choice("order", &["none", "ascend", "descend"])?,
        sort_target: args.choice("target", &["key", "version", "create", "mod", "value"])?,
        serializable: args.flag("serializable"),
        keys_only: args.flag("keys_only"),
        count_only: args.flag("count_only"),
        min_mod_revision: args.int("min_mod")?,
        max_mod_revision: args.int("max_mod")?,
        min_create_revision: args.int("min_create")?,
        max_create_revision: args.int("max_create")?,
        key: args.word()?,
        range_end: args.word().unwrap_or_default(),
    };
    args.end()?;
    Ok(request)
}

pub(crate) fn delete(mut args: Args<'_>) -> Result<DeleteRangeRequest> {
    let prev_kv = args.flag("prev_kv");
    let (key, range_end) = (args.word()?, args.word().unwrap_or_default());
    args.end()?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv })
}

pub(crate) fn compact(mut args: Args<'_>) -> Result<CompactionRequest> {
    let physical = args.flag("physical");
    let revision = args.number()?;
    args.end()?;
    Ok(CompactionRequest { revision, physical })
}

pub(crate) fn hash_kv(mut args: Args<'_>) -> Result<HashKvRequest> {
    let revision = args.number().unwrap_or(0);
    args.end()?;
    Ok(HashKvRequest { revision })
}

pub(crate) fn downgrade(mut args: Args<'_>) -> Result<DowngradeRequest> {
    let action = choice(&args.text()?, &["validate", "enable", "cancel"])?;
    let version = args.text().unwrap_or_default();
    args.end()?;
    Ok(DowngradeRequest { action, version })
}

/// `own` stands for the member itself.
pub(crate) fn alarm(mut args: Args<'_>, own: u64) -> Result<AlarmRequest> {
    let action = choice(&args.text()?, &["get", "activate", "deactivate"])?;
    let alarm = choice(&args.text()?, &["none", "nospace", "corrupt"])?;
    let member_id = match args.text() {
        Ok(own_id) if own_id == "own" => own,
        Ok(id) => id.parse()?,
        Err(_) => 0,
    };
    args.end()?;
    Ok(AlarmRequest { action, member_id, alarm })
}

pub(crate) fn watch_create(mut args: Args<'_>) -> Result<WatchCreateRequest> {
    let mut filters = Vec::new();
    while let Some(filter) = args.option("filter") {
        filters.push(choice(std::str::from_utf8(&filter)?, &["noput", "nodelete"])?);
    }
    let request = WatchCreateRequest {
        filters,
        start_revision: args.int("start")?,
        watch_id: args.int("id")?,
        progress_notify: args.flag("progress"),
        prev_kv: args.flag("prev_kv"),
        fragment: args.flag("fragment"),
        key: args.word()?,
        range_end: args.word().unwrap_or_default(),
    };
    args.end()?;
    Ok(request)
}

pub(crate) fn txn(args: Args<'_>) -> Result<TxnRequest> {
    let mut txn = TxnRequest::default();
    for group in &args.groups {
        let times = group[0].as_text().and_then(|text| text.parse().ok());
        let body = if times.is_some() { &group[1..] } else { group };
        for index in 0..times.unwrap_or(1) {
            let body: Vec<Token> = match times {
                None => body.to_vec(),
                Some(_) => body.iter().map(|token| token.numbered(index)).collect(),
            };
            let (first, rest) = body.split_first().context("an empty group")?;
            match first.as_text() {
                Some("if") => txn.compare.push(compare(rest)?),
                Some("then") => txn.success.push(op(rest)?),
                Some("else") => txn.failure.push(op(rest)?),
                _ => bail!("a group starts with if, then or else: {first:?}"),
            }
        }
    }
    args.end()?;
    Ok(txn)
}

/// An operation of a transaction; no words at all are an operation that is not set.
fn op(tokens: &[Token]) -> Result<RequestOp> {
    let Some((first, rest)) = tokens.split_first() else { return Ok(RequestOp::default()) };
    let args = Args::new(rest);
    let request = match first.as_text() {
        Some("put") => Request::RequestPut(put(args)?),
        Some("range") => Request::RequestRange(range(args)?),
        Some("del") => Request::RequestDeleteRange(delete(args)?),
        Some("txn") => Request::RequestTxn(txn(args)?),
        _ => bail!("no operation of a transaction: {first:?}"),
    };
    Ok(RequestOp { request: Some(request) })
}

const TARGETS: [&str; 5] = ["version", "create", "mod", "value", "lease"];

/// `TARGET KEY [END] OP OPERAND`. The operand is of the target's type, or `name=..` of another's,
/// or not there.
fn compare(tokens: &[Token]) -> Result<Compare> {
    let operators = ["=", ">", "<", "!="];
    let at = tokens.iter().position(|token| {
        token.as_text().is_some_and(|text| operators.contains(&text) || text.starts_with('?'))
    });
    let (left, right) = tokens.split_at(at.context("a compare has an operator")?);
    let mut args = Args::new(left);
    let target = choice(&args.text()?, &TARGETS)?;
    let key = args.word()?;
    let range_end = args.word().unwrap_or_default();
    args.end()?;
    // `?9` is the operator with number 9.
    let operator = right[0].as_text().unwrap_or_default().trim_start_matches('?');
    let result = choice(operator, &operators)?;
    let target_union = match right.get(1) {
        None => None,
        Some(Token::Option(name, value)) => Some(operand(choice(name, &TARGETS)?, value)?),
        Some(Token::Word(value)) => Some(operand(target, value)?),
        Some(Token::Group(_)) => bail!("a group is no operand"),
    };
    Ok(Compare { result, target, key, range_end, target_union })
}

fn operand(target: i32, value: &[u8]) -> Result<TargetUnion> {
    let number = || anyhow::Ok(std::str::from_utf8(value)?.parse()?);
    Ok(match target {
        0 => TargetUnion::Version(number()?),
        1 => TargetUnion::CreateRevision(number()?),
        2 => TargetUnion::ModRevision(number()?),
        3 => TargetUnion::Value(value.to_vec()),
        4 => TargetUnion::Lease(number()?),
        other => bail!("target {other} needs a named operand, as version=1"),
    })
}
