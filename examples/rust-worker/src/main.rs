//! A worker with handlers of its own. It takes its configuration from the environment, as `tasker worker`
//! does, and runs until it is told to stop.

mod handlers;
mod sales;

#[tokio::main]
async fn main() -> Result<(), tasker_worker::Error> {
    tasker_worker::Worker::from_env()?
        .handler("read_sales", handlers::read_sales)
        .handler("total_by", handlers::total_by)
        .handler("write_report", handlers::write_report)
        .run()
        .await
}
