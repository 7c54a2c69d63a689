//! The data pipeline example: what its shell tools report is what a plain sum over the file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tasker_tests::Stack;

const ROWS: usize = 60_000;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data-pipeline")
}

/// Copies the example's programs and makes its data there.
fn set_up(directory: &Path) {
    let copied = Command::new("cp")
        .arg("-R")
        .args([example().join("generate.sh"), example().join("steps")])
        .arg(directory)
        .status()
        .unwrap();
    assert!(copied.success());
    let made = Command::new("sh")
        .args(["generate.sh", &ROWS.to_string()])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Rows, pieces and cents of the whole, and cents by region.
fn sums(sales: &str) -> (u64, u64, u64, BTreeMap<&str, u64>) {
    let (mut rows, mut pieces, mut cents) = (0, 0, 0);
    let mut regions = BTreeMap::new();
    for row in sales.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let quantity: u64 = cells[4].parse().unwrap();
        let price = quantity * cells[5].parse::<u64>().unwrap();
        rows += 1;
        pieces += quantity;
        cents += price;
        *regions.entry(cells[2]).or_default() += price;
    }
    (rows, pieces, cents, regions)
}

#[tokio::test]
async fn the_report_agrees_with_a_plain_sum_over_sixty_thousand_rows() {
    let stack = Stack::start().await;
    let directory = stack.directory("pipeline");
    set_up(&directory);
    let template = std::fs::read_to_string(example().join("templates/sales_report.yaml")).unwrap();
    let here = format!("cwd: {}", json!(directory.to_str().unwrap()));
    stack
        .apply_template(&template.replace("cwd: examples/data-pipeline", &here))
        .await;

    let request = json!({ "name": "sales_report", "namespace": "examples", "context": {} });
    let task = stack.submit(request).await;
    stack.wait_complete(task, Duration::from_secs(60)).await;

    let sales = std::fs::read_to_string(directory.join("data/sales.csv")).unwrap();
    let (rows, pieces, cents, regions) = sums(&sales);
    assert_eq!(rows, ROWS as u64);
    let steps = stack.steps(task).await;
    let result = &steps["report"]["results"];
    assert_eq!(
        (&result["rows"], &result["pieces"], &result["cents"]),
        (&json!(rows), &json!(pieces), &json!(cents))
    );
    let report = std::fs::read_to_string(directory.join("report/sales.txt")).unwrap();
    for (region, cents) in regions {
        let line = report
            .lines()
            .find(|line| line.starts_with(region))
            .unwrap();
        let sum = format!("{}.{:02}", cents / 100, cents % 100);
        assert_eq!(line.split_whitespace().nth(1), Some(&*sum), "{line}");
    }
    let dealt: u64 = (1..=4)
        .map(|part| {
            steps[&format!("aggregate_{part}")]["results"]["rows"]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(dealt, rows);
    assert!(
        directory
            .join("report/sums.csv.gz")
            .metadata()
            .unwrap()
            .len()
            > 0
    );
}
