//! `--auth-token`: the kind of token, and behind commas what a JWT needs.

use std::path::PathBuf;
use std::time::Duration;

use super::value;
use crate::auth::TokenKind;

const SIMPLE_TTL_DEFAULT: Duration = Duration::from_secs(300);
const JWT_TTL_DEFAULT: Duration = Duration::from_secs(300);

/// 0 stands for the default, as in etcd.
pub(super) fn ttl(seconds: i64) -> Duration {
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => SIMPLE_TTL_DEFAULT,
    }
}

pub(super) fn parse(text: &str) -> Result<TokenKind, String> {
    let (kind, options) = text.split_once(',').unwrap_or((text, ""));
    match kind {
        "" => Ok(TokenKind::None),
        "simple" => Ok(TokenKind::Simple),
        "jwt" => jwt(options),
        other => Err(format!("must be simple or jwt, not \"{other}\"")),
    }
}

fn jwt(options: &str) -> Result<TokenKind, String> {
    let (mut method, mut public_key, mut private_key) = (None, None, None);
    let mut ttl = JWT_TTL_DEFAULT;
    let mut seen = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("must have options like sign-method=RS256, not \"{option}\""))?;
        if seen.contains(&name) {
            return Err(format!("has {name}= twice"));
        }
        seen.push(name);
        match name {
            "sign-method" => method = Some(value.to_owned()),
            "pub-key" => public_key = Some(PathBuf::from(value)),
            "priv-key" => private_key = Some(PathBuf::from(value)),
            "ttl" => {
                ttl = value::duration(value).map_err(|why| format!("has a ttl= that {why}"))?
            }
            other => return Err(format!("has the unknown option {other}=")),
        }
    }
    let method = method.ok_or("needs sign-method=, as in jwt,sign-method=RS256,priv-key=FILE")?;
    Ok(TokenKind::Jwt { method, public_key, private_key, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_their_options() {
        assert_eq!(parse("simple"), Ok(TokenKind::Simple));
        assert_eq!(parse(""), Ok(TokenKind::None));
        let jwt = TokenKind::Jwt {
            method: "RS512".into(),
            public_key: Some("a.pub".into()),
            private_key: Some("a".into()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(parse("jwt,pub-key=a.pub,priv-key=a,sign-method=RS512,ttl=10m"), Ok(jwt));
        for wrong in ["plain", "jwt", "jwt,sign-method", "jwt,sign-method=a,sign-method=b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ttl(0), SIMPLE_TTL_DEFAULT);
        assert_eq!(ttl(7), Duration::from_secs(7));
    }
}
