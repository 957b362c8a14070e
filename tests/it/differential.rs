//! kvd and the real etcd, asked the same, answer the same; the short run. The long one is
//! `cargo run -p kvd-tests --bin differential`.

use harness::differential::{Plan, run};
use harness::{Target, etcd_is_required};

#[test]
fn two_thousand_random_steps() {
    if !Target::Etcd.is_built() && !etcd_is_required() {
        return;
    }
    let plan = Plan {
        left: Target::Etcd,
        right: Target::Kvd,
        // Always the same steps here: other ones are for long runs.
        seed: 1,
        steps: 2000,
        shrink_runs_max: 30,
        progress: |_| {},
    };
    match run(&plan).unwrap() {
        Ok(compared) => {
            for kind in ["put", "range", "del", "txn", "compact", "hashkv", "watch events"] {
                assert!(compared.contains_key(kind), "no {kind} among {compared:?}");
            }
        }
        Err(difference) => panic!("seed {}: {difference}", plan.seed),
    }
}
