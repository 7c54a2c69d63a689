//! `tasker demo-payments`, hidden: the payment provider of the example workflow by itself.

use std::net::SocketAddr;

use clap::Args;

use super::print_line;
use crate::failure::Failure;
use crate::order::payments::Provider;
use crate::process::Ending;

#[derive(Debug, Args)]
pub(crate) struct DemoPayments {
    /// Where it listens
    #[arg(long, default_value = crate::order::PROVIDER, value_name = "ADDR:PORT")]
    listen: SocketAddr,
}

impl DemoPayments {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let provider = Provider::bind(self.listen).await?;
        print_line(&format!(
            "payment provider at http://{}",
            provider.address()
        ))?;
        let ending = Ending::listen(false)?;
        provider.serve(async move { ending.wait().await }).await
    }
}
