//! The fault suite: every kind of fault at moments that a seed decides, under load, and an audit at the end. Its long
//! form is `cargo run --bin storm`.

use tasker_tests::storm::{self, Options};

const FAULTS: usize = 24;
/// How many examples of what is wrong are told.
const TOLD: usize = 10;

#[tokio::test]
async fn in_a_storm_of_faults_nothing_is_lost_and_nothing_is_applied_twice() {
    let options = Options {
        short_leases: true,
        ..Options::new(FAULTS)
    };
    let report = storm::run(&options).await;
    println!("{report}");
    assert!(report.faults() >= FAULTS);
    assert_eq!((report.audit.lost, report.audit.applied_twice), (0, 0));
    let wrong = report.wrong();
    let told = &wrong[..wrong.len().min(TOLD)];
    assert!(wrong.is_empty(), "wrong: {} {told:#?}", wrong.len());
}
