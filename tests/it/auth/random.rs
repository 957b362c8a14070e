//! Users, roles, permissions and those who use them at random, on kvd and etcd: every answer the same.

use std::fmt::Write as _;

use harness::{Target, etcd_is_required, script};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const COMMANDS: usize = 1500;
const USERS: [&str; 5] = ["u1", "u2", "u3", "u4", "root"];
const ROLES: [&str; 4] = ["r1", "r2", "r3", "root"];
/// Keys, and where the range ends that is granted from them: always the same, because etcd keeps a
/// second line for the same keys where other ranges begin with the same key.
const GRANTS: [(&str, &str); 9] = [
    ("a", ""),
    ("b", "d"),
    ("c", ""),
    ("d", "f"),
    ("e", "e\\0"),
    ("f", ""),
    ("g", "\\0"),
    ("\\0", "c"),
    ("ab", "b"),
];
const KEYS: [&str; 8] = ["a", "ab", "b", "c", "d", "e", "f", "g"];

struct Author(StdRng);

impl Author {
    fn one<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words.choose(&mut self.0).unwrap()
    }

    /// Never a range that ends before it begins: whether etcd allows that depends on what else is
    /// granted.
    fn keys(&mut self) -> String {
        let (key, end) = (self.one(&KEYS), self.one(&["", "", "c", "d", "e", "f", "h", "\\0"]));
        let end = if end > key || end == "\\0" { end } else { "" };
        format!("{key} {end}").trim_end().to_owned()
    }

    /// What an administrator does. Now and then it is somebody who is none.
    fn administration(&mut self) -> String {
        let who = if self.0.random_ratio(1, 12) { self.one(&["c1", "c2"]) } else { "c0" };
        let (user, role) = (self.one(&USERS), self.one(&ROLES));
        let (key, end) = GRANTS.choose(&mut self.0).unwrap();
        let kind = self.one(&["read", "write", "readwrite"]);
        let command = match self.0.random_range(0..20) {
            0 => format!("user add {user} {user}"),
            1 => format!("user delete {user}"),
            2 => format!("user passwd {user} {user}"),
            3..6 => format!("user grant {user} {role}"),
            6 => format!("user revoke {user} {role}"),
            7 => format!("user get {user}"),
            8 => format!("role add {role}"),
            9 => format!("role delete {role}"),
            10..15 => format!("role grant {role} {kind} {key} {end}"),
            15 | 16 => format!("role revoke {role} {key} {end}"),
            17 => format!("role get {role}"),
            18 => "user list".to_owned(),
            _ => "auth status".to_owned(),
        };
        format!("{who}: {}", command.trim_end())
    }

    fn op(&mut self) -> String {
        let (key, keys) = (self.one(&KEYS), self.keys());
        let prev_kv = self.one(&["", " prev_kv"]);
        match self.0.random_range(0..3) {
            0 => format!("put {key} v{prev_kv}"),
            1 => format!("range {keys}"),
            _ => format!("del {keys}{prev_kv}"),
        }
    }

    fn use_of_keys(&mut self) -> String {
        let who = self.one(&["c1", "c2", "c3", "c4"]);
        let command = match self.0.random_range(0..8) {
            0..5 => self.op(),
            5 => {
                let (keys, then, otherwise) = (self.keys(), self.op(), self.op());
                // No two changes of a key in one branch.
                format!("txn (if version {keys} > 0) (then {then}) (else {otherwise})")
            }
            6 => format!("txn (then txn (then {}))", self.op()),
            _ => "lease list".to_owned(),
        };
        format!("{who}: {command}")
    }

    /// Whose calls a client's are: often its user is gone, or has another password by now.
    fn login(&mut self) -> String {
        let number = self.0.random_range(1..5);
        format!("c{number}: login u{number} u{number}")
    }

    fn script(&mut self) -> String {
        let mut script = String::from("server --bcrypt-cost=4\n\n# Some users.\n");
        for line in [
            "user add root root",
            "user grant root root",
            "lease grant 900 1",
            "lease grant 900 2",
            "put a 1 lease=1",
            "put d 1 lease=1",
            "put f 1 lease=2",
        ] {
            writeln!(script, "{line}").unwrap();
        }
        for n in 1..4 {
            writeln!(script, "user add u{n} u{n}\nrole add r{n}\nuser grant u{n} r{n}").unwrap();
        }
        script.push_str("auth enable\nc0: login root root\n");
        (1..4).for_each(|n| writeln!(script, "c{n}: login u{n} u{n}").unwrap());
        script.push_str("---\n");
        for number in 0..COMMANDS {
            let line = match self.0.random_range(0..10) {
                0..4 => self.administration(),
                4 => self.login(),
                _ => self.use_of_keys(),
            };
            writeln!(script, "\n# {number}\n{line}").unwrap();
            // Lest there be nobody left who may change anything.
            if line.contains("passwd root") {
                writeln!(script, "c0: login root root").unwrap();
            }
            script.push_str("---\n");
        }
        script
    }
}

#[test]
fn random_users_get_the_answers_of_etcd() {
    if !Target::Etcd.is_built() && !etcd_is_required() {
        return;
    }
    let seed = rand::random();
    let script = Author(StdRng::seed_from_u64(seed)).script();
    let play = |target| script::play(&script, target).unwrap_or_else(|why| panic!("{why:#}"));
    let (ours, theirs) = (play(Target::Kvd), play(Target::Etcd));
    let steps = |script: &str| script::parse_steps(script).unwrap().1;
    for (ours, theirs) in steps(&ours).into_iter().zip(steps(&theirs)) {
        let same = ours.answers == theirs.answers;
        assert!(same, "seed {seed}: {:?}\nkvd {:?}\netcd {:?}", ours, ours.answers, theirs.answers);
    }
    let refused = theirs.lines().filter(|line| line.contains("permission denied")).count();
    let done = theirs.lines().filter(|line| line.contains("{C M T")).count();
    eprintln!("{COMMANDS} commands: {done} carried out, {refused} not allowed");
    assert!(refused > COMMANDS / 50 && done > COMMANDS / 5, "{refused} refused, {done} done");
}
