//! Words and groups of a command line.

use anyhow::{Context, Result, bail};

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(Vec<u8>),
    /// `name=value`, where the equals sign is not quoted.
    Option(String, Vec<u8>),
    Group(Vec<Token>),
}

impl Token {
    /// The same with `{}` replaced by `index` in all words.
    pub(crate) fn numbered(&self, index: usize) -> Self {
        let fill = |word: &[u8]| match word.windows(2).position(|pair| pair == b"{}") {
            None => word.to_vec(),
            Some(at) => [&word[..at], index.to_string().as_bytes(), &word[at + 2..]].concat(),
        };
        match self {
            Self::Word(word) => Self::Word(fill(word)),
            Self::Option(name, value) => Self::Option(name.clone(), fill(value)),
            Self::Group(tokens) => {
                Self::Group(tokens.iter().map(|token| token.numbered(index)).collect())
            }
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Word(word) => std::str::from_utf8(word).ok(),
            _ => None,
        }
    }
}

pub(crate) fn tokens(line: &str) -> Result<Vec<Token>> {
    let mut input = line.bytes().peekable();
    let tokens = group(&mut input)?;
    if input.next().is_some() {
        bail!("')' without '(' in: {line}");
    }
    Ok(tokens)
}

type Input<'a> = std::iter::Peekable<std::str::Bytes<'a>>;

/// Tokens up to a closing parenthesis, which is left, or the end.
fn group(input: &mut Input<'_>) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    while let Some(&byte) = input.peek() {
        match byte {
            b')' => break,
            b' ' => {
                input.next();
            }
            b'(' => {
                input.next();
                tokens.push(Token::Group(group(input)?));
                input.next().context("'(' without ')'")?;
            }
            _ => tokens.push(word(input)?),
        }
    }
    Ok(tokens)
}

fn word(input: &mut Input<'_>) -> Result<Token> {
    let mut bytes = Vec::new();
    let mut name = None;
    while let Some(&byte) = input.peek() {
        match byte {
            b' ' | b'(' | b')' => break,
            b'"' => {
                input.next();
                loop {
                    match input.next().context("a quote is not closed")? {
                        b'"' => break,
                        b'\\' => bytes.push(escape(input)?),
                        other => bytes.push(other),
                    }
                }
            }
            b'\\' => {
                input.next();
                bytes.push(escape(input)?);
            }
            b'=' if name.is_none() && is_name(&bytes) => {
                input.next();
                name = Some(String::from_utf8(std::mem::take(&mut bytes))?);
            }
            other => {
                input.next();
                bytes.push(other);
            }
        }
    }
    Ok(match name {
        Some(name) => Token::Option(name, bytes),
        None => Token::Word(bytes),
    })
}

fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
}

fn escape(input: &mut Input<'_>) -> Result<u8> {
    let mut next = || input.next().context("an escape is cut off");
    Ok(match next()? {
        b'0' => 0,
        b'n' => b'\n',
        b's' => b' ',
        b'x' => {
            let digits = [next()?, next()?];
            u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
        }
        other @ (b'\\' | b'"' | b'(' | b')' | b'=') => other,
        other => bail!("unknown escape \\{}", char::from(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_options_and_groups() {
        let word = |text: &str| Token::Word(text.as_bytes().to_vec());
        let option = |name: &str, text: &str| Token::Option(name.to_owned(), text.into());
        assert_eq!(
            tokens(r#"txn (if value a = "x y=") (then range \0 limit=3)"#).unwrap(),
            vec![
                word("txn"),
                Token::Group(vec![word("if"), word("value"), word("a"), word("="), word("x y=")]),
                Token::Group(vec![word("then"), word("range"), word("\0"), option("limit", "3")]),
            ]
        );
        assert_eq!(word("k{}").numbered(7), word("k7"));
        assert!(tokens("a (b").is_err());
        assert!(tokens("a) b").is_err());
    }
}
