//! What the commands about users and roles have in common.

use proto::etcdserverpb::ResponseHeader;

use crate::failure::Failure;
use crate::format::{Answer, AuthAnswer, Style, Subject};
use crate::options::GlobalArgs;
use crate::print;
use crate::session::Session;

/// The arguments if there are as many as there must be, else what is needed.
pub(super) fn words<const N: usize>(
    args: Vec<String>,
    needs: &'static str,
) -> Result<[String; N], Failure> {
    args.try_into().map_err(|_| Failure::bad_arguments(needs))
}

pub(super) async fn open(
    globals: &GlobalArgs,
    subject: Subject,
) -> Result<(Style, Session), Failure> {
    let options = globals.resolve()?;
    let style = options.style;
    style.check(subject)?;
    Ok((style, Session::open(options).await?))
}

/// Prints the answer to a change, which is a header alone.
pub(super) fn done(
    style: Style,
    what: String,
    header: Option<ResponseHeader>,
) -> Result<(), Failure> {
    print::answer(style, &Answer::Auth(&AuthAnswer::Done { what, header }))
}
