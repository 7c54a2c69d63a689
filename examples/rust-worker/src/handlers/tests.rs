use std::path::Path;

use serde_json::{Value, json};
use tasker_shared::template;
use tasker_worker::testing::{self, Builder};

use super::*;

const SALES: &str = "day,country,product,units,price_cents
2025-01-02,DE,tea,3,450
2025-01-02,FR,tea,1,450
2025-01-03,DE,pot,1,2999
";

fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sales.csv");
    std::fs::write(&file, text).unwrap();
    (directory, file)
}

fn context(file: &Path) -> Builder {
    testing::context().input(json!({"file": file}))
}

#[tokio::test]
async fn the_steps_together_make_a_report() {
    let (_directory, file) = file_with(SALES);
    let checked = read_sales(context(&file).build()).await.unwrap();
    let totals = async |column: &str| {
        total_by(context(&file).config(json!({"column": column})).build())
            .await
            .unwrap()
    };
    let builder = context(&file)
        .ancestor("read_sales", &checked)
        .dependency("by_country", totals("country").await)
        .dependency("by_product", totals("product").await);
    let written = write_report(builder.build()).await.unwrap();

    let text = std::fs::read_to_string(&written.report).unwrap();
    assert!(text.contains("3 sales\n"), "{text}");
    assert!(
        text.contains(
            "| country | units | amount |\n|---|---:|---:|\n| DE | 4 | 43.49 |\n| FR | 1 | 4.50 |\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("| pot | 1 | 29.99 |\n| tea | 4 | 18.00 |\n"),
        "{text}"
    );
    assert_eq!(
        std::fs::read_dir(file.parent().unwrap()).unwrap().count(),
        2,
        "nothing is left aside"
    );
}

#[tokio::test]
async fn a_file_that_another_attempt_would_not_mend_is_a_permanent_failure() {
    // (text, what the failure says)
    let table = [
        ("", ":1: the header has to be"),
        (
            "day,country,product,units,price_cents\n2025-01-02,DE,tea,3\n",
            ":2: 4 fields instead of 5",
        ),
        (
            "day,country,product,units,price_cents\n2025-01-02,DE,tea,three,450\n",
            ":2: `three` is no whole number",
        ),
    ];
    for (text, part) in table {
        let (_directory, file) = file_with(text);
        let error = read_sales(context(&file).build()).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(error.message().contains(part), "{error}");
    }
    let missing = read_sales(context(Path::new("/no/such/file.csv")).build())
        .await
        .unwrap_err();
    assert!(!missing.is_retryable());
}

#[test]
fn the_template_is_valid_and_calls_only_handlers_that_are_there() {
    let source = include_str!("../../templates/sales_report.yaml");
    let template =
        template::parse(source, "sales_report.yaml", &template::Limits::default()).unwrap();
    let program = include_str!("../main.rs");
    for step in &template.steps {
        let callable = &step.handler.callable;
        assert!(
            program.contains(&format!("\"{callable}\"")),
            "{callable} is not registered in main.rs"
        );
    }
    let columns: Vec<&Value> = template
        .steps
        .iter()
        .filter_map(|step| step.handler.initialization.get("column"))
        .collect();
    assert_eq!(columns, [&json!("country"), &json!("product")]);
}
