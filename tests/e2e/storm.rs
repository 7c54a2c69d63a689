//! The fault suite: every kind of fault at moments that a seed decides, under load, and an audit at the end. Its long
//! form is `cargo run --bin storm`.

use std::time::Duration;

use tasker_tests::storm::kind::{Kind, Place};
use tasker_tests::storm::{self, Options};

const FAULTS: usize = 22;
/// Three times the goals of twenty and ten seconds: other tests run beside this one. The long form judges closely.
const TAKEN_OVER: Duration = Duration::from_secs(60);
const DATABASE_BACK: Duration = Duration::from_secs(30);

#[tokio::test]
async fn in_a_storm_of_faults_nothing_is_lost_and_nothing_is_applied_twice() {
    let options = Options {
        short_leases: true,
        ..Options::new(FAULTS)
    };
    let report = storm::run(&options).await;
    println!("{report}");
    report.audit.assert_clean();
    assert_eq!(report.audit.finished, report.audit.accepted);
    assert!(report.faults() >= FAULTS);
    let struck = report.recoveries.iter().flat_map(|strike| &strike.kinds);
    let struck: Vec<Kind> = struck.map(|(kind, _)| *kind).collect();
    let skipped = |kind: &Kind| report.skipped.iter().any(|(skipped, _)| skipped == kind);
    for kind in Kind::ALL.iter().filter(|kind| !skipped(kind)) {
        assert!(struck.contains(kind), "{kind} is missing");
    }
    assert!(report.longest_taken_over() < Some(TAKEN_OVER));
    assert!(report.longest_alone(|kind| kind.place() == Place::Database) < Some(DATABASE_BACK));
}
