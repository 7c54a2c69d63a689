//! When a program of this package that a test starts is to end.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Completes at SIGTERM, and when whoever started the program has gone, which the end of standard input tells.
///
/// # Errors
/// Signals cannot be listened for.
pub fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (tell, gone) = oneshot::channel();
    // No task of the runtime's, which would wait for it at its end.
    std::thread::spawn(move || {
        let mut ignored = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut ignored);
        let _ = tell.send(());
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = gone => {}
        }
    })
}
