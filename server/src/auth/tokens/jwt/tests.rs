//! Tokens and keys without a server. The keys are made of fixed secrets.

use std::fs;
use std::path::PathBuf;

use p256::elliptic_curve::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const NOW: u64 = 2_000_000_000;
const CURVES: [&str; 3] = ["ES256", "ES384", "ES512"];

/// Files of one key: PKCS#8, SEC1 and SPKI.
struct Files {
    private: PathBuf,
    sec1: PathBuf,
    public: PathBuf,
    _dir: TempDir,
}

/// A curve's key, or a secret; another byte makes another one.
fn files(method: &str, byte: u8) -> Files {
    macro_rules! pem {
        ($curve:ident, $bytes:literal) => {{
            let mut secret = [1; $bytes];
            secret[$bytes - 1] = byte;
            let key = $curve::SecretKey::from_slice(&secret).unwrap();
            [
                key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
                key.to_sec1_pem(LineEnding::LF).unwrap().to_string(),
                key.public_key().to_public_key_pem(LineEnding::LF).unwrap(),
            ]
        }};
    }
    let pem = match method {
        "ES256" => pem!(p256, 32),
        "ES384" => pem!(p384, 48),
        "ES512" => pem!(p521, 66),
        secret => ["private", "sec1", "public"].map(|part| format!("{secret} {part} {byte}")),
    };
    let dir = tempfile::tempdir().unwrap();
    let [private, sec1, public] = ["private", "sec1", "public"].map(|name| dir.path().join(name));
    for (path, pem) in [&private, &sec1, &public].into_iter().zip(pem) {
        fs::write(path, pem).unwrap();
    }
    Files { private, sec1, public, _dir: dir }
}

fn jwt(method: &str, public: Option<&PathBuf>, private: Option<&PathBuf>) -> anyhow::Result<Jwt> {
    let keys = (public.map(PathBuf::as_path), private.map(PathBuf::as_path));
    Jwt::new(method, keys, Duration::from_secs(60))
}

fn why(jwt: anyhow::Result<Jwt>) -> String {
    format!("{:#}", jwt.err().expect("the keys are refused"))
}

fn token(jwt: &Jwt, header: &Value, claims: &Value) -> String {
    signed(header, claims, jwt.private.as_ref().unwrap()).unwrap()
}

#[test]
fn every_form_of_a_key_signs_and_verifies() {
    for method in CURVES {
        let files = files(method, 1);
        let signs = [
            jwt(method, Some(&files.public), Some(&files.private)).unwrap(),
            jwt(method, Some(&files.public), Some(&files.sec1)).unwrap(),
            jwt(method, None, Some(&files.private)).unwrap(),
        ];
        let verifies = jwt(method, Some(&files.public), None).unwrap();
        assert_eq!(verifies.sign("u", 7), Err(VerifyOnly));
        for signer in &signs {
            let token = signer.sign("u", 7).unwrap();
            let caller = Caller { user: "u".into(), auth_revision: 7 };
            for other in signs.iter().chain([&verifies]) {
                assert_eq!(other.caller(&token), Some(caller.clone()), "{method}");
            }
        }
    }
}

#[test]
fn a_token_is_header_claims_and_both_halves_of_the_signature() {
    let files = files("ES512", 1);
    let jwt = jwt("ES512", None, Some(&files.private)).unwrap();
    let token = jwt.sign("u", 7).unwrap();
    let parts: Vec<_> =
        token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let [header, claims, signature] = &parts[..] else { panic!("{token}") };
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header, json!({"alg": "ES512", "typ": "JWT"}));
    let claims: Value = serde_json::from_slice(claims).unwrap();
    assert_eq!((&claims["username"], &claims["revision"]), (&json!("u"), &json!(7)));
    assert!(claims["exp"].as_u64() > Some(since_epoch().as_secs()));
    assert_eq!(signature.len(), 2 * 66);
}

#[test]
fn the_same_claims_are_refused_whatever_the_method() {
    let whole = json!({"username": "u", "revision": 7});
    let good = [
        json!({}),
        json!({"exp": NOW + 1}),
        json!({"exp": NOW as f64 + 1.5, "nbf": NOW}),
        json!({"exp": 0, "nbf": 0}),
        json!({"iss": 1, "aud": ["a"], "iat": NOW + 9}),
    ];
    let bad = [
        (json!({"exp": NOW}), "it has expired"),
        (json!({"exp": NOW as f64 + 0.5}), "it has expired"),
        (json!({"exp": -1}), "it has expired"),
        (json!({"nbf": NOW + 1}), "it does not hold yet"),
        (json!({"exp": (NOW + 1).to_string()}), "its claims cannot be read"),
        (json!({"nbf": null}), "its claims cannot be read"),
        (json!({"username": null}), "its claims cannot be read"),
        (json!({"revision": "7"}), "its claims cannot be read"),
    ];
    let with = |more: &Value| {
        let mut claims = whole.clone();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    for method in ["HS256", "ES256", "ES512"] {
        let files = files(method, 1);
        let jwt = jwt(method, None, Some(&files.private)).unwrap();
        let check = |claims: &Value| {
            let token = token(&jwt, &json!({"alg": method}), claims);
            jwt.check(&token, NOW).map(|claimed| (claimed.username, claimed.revision))
        };
        for more in &good {
            assert_eq!(check(&with(more)), Ok(("u".to_owned(), 7.0)), "{method} {more}");
        }
        for (more, why) in &bad {
            assert_eq!(check(&with(more)), Err(*why), "{method} {more}");
        }
        for part in [json!({"username": "u"}), json!({"revision": 7}), json!([])] {
            assert_eq!(check(&part), Err("its claims cannot be read"), "{method} {part}");
        }
    }
}

#[test]
fn the_header_names_the_method_that_was_asked_for() {
    let claims = json!({"username": "u", "revision": 7});
    for method in ["HS512", "ES384", "ES512"] {
        let files = files(method, 1);
        let jwt = jwt(method, None, Some(&files.private)).unwrap();
        for alg in ["none", "HS256", "RS512", "es512", "ES512 ", ""] {
            let token = token(&jwt, &json!({"alg": alg, "typ": "JWT"}), &claims);
            let why = "it is signed with another method";
            assert_eq!(jwt.check(&token, NOW), Err(why), "{method} {alg:?}");
        }
        for header in [json!({"typ": "JWT"}), json!({"alg": [method]}), json!(method)] {
            let token = token(&jwt, &header, &claims);
            assert_eq!(jwt.check(&token, NOW), Err("its header cannot be read"), "{header}");
        }
    }
}

#[test]
fn a_signature_is_of_this_key_and_this_text() {
    for method in ["HS256", "ES256", "ES384", "ES512"] {
        let (ours, other) = (files(method, 1), files(method, 2));
        let ours = jwt(method, None, Some(&ours.private)).unwrap();
        let other = jwt(method, None, Some(&other.private)).unwrap();
        let token = ours.sign("u", 7).unwrap();
        assert!(ours.caller(&token).is_some());
        assert_eq!(other.caller(&token), None, "{method}");

        let parts: Vec<_> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{token}") };
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let longer = URL_SAFE_NO_PAD.encode([&bytes[..], &[0]].concat());
        let zero = URL_SAFE_NO_PAD.encode(vec![0; bytes.len()]);
        let shorter = URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]);
        *bytes.last_mut().unwrap() ^= 1;
        let changed = URL_SAFE_NO_PAD.encode(&bytes);
        for wrong in [&longer, &zero, &shorter, &changed, "", "=", &format!("{signature}=")] {
            let token = format!("{header}.{claims}.{wrong}");
            assert_eq!(ours.check(&token, NOW), Err("its signature is wrong"), "{method} {wrong}");
        }
        let root = URL_SAFE_NO_PAD.encode(r#"{"username":"root","revision":7}"#);
        let token = format!("{header}.{root}.{signature}");
        assert_eq!(ours.check(&token, NOW), Err("its signature is wrong"), "{method}");
        for wrong in ["", ".", "a.b", header, &format!("{header}.{claims}")] {
            assert!(ours.check(wrong, NOW).is_err(), "{method} {wrong:?}");
        }
        let four = format!("{header}.{claims}.{claims}.{signature}");
        assert!(ours.check(&four, NOW).is_err(), "{method}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_at_the_start() {
    for method in CURVES {
        let (ours, other) = (files(method, 1), files(method, 2));
        let apart = why(jwt(method, Some(&other.public), Some(&ours.private)));
        assert_eq!(apart, "pub-key= and priv-key= do not belong together");
        for foreign in CURVES.into_iter().filter(|foreign| *foreign != method) {
            let files = files(foreign, 1);
            let private = why(jwt(method, None, Some(&files.private)));
            let unusable = format!("the private key cannot be used with {method} (");
            assert!(private.starts_with(&unusable), "{private}");
            let sec1 = why(jwt(method, None, Some(&files.sec1)));
            assert!(sec1.contains(&format!("is no private key for {method} (")), "{sec1}");
            assert!(sec1.contains("openssl pkcs8 -topk8 -nocrypt"), "{sec1}");
            for private in [None, Some(&ours.private)] {
                let public = why(jwt(method, Some(&files.public), private));
                assert!(public.contains(&format!("is no public key for {method} (")), "{public}");
            }
        }
        // Each in the other's place.
        assert!(why(jwt(method, None, Some(&ours.public))).contains("is no private key for"));
        assert!(why(jwt(method, Some(&ours.private), None)).contains("is no public key for"));
        assert!(why(jwt(method, None, None)).contains("needs a key: priv-key="));
    }
    assert_eq!(why(jwt("ES521", None, None)), "there is no sign-method \"ES521\"");
}
