//! The thread that exports: one with a runtime of its own, so that the export neither waits for the work nor the
//! work for it, and so that what the export logs can be told from all else.

use std::cell::Cell;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

const NAME: &str = "telemetry";

thread_local! {
    static EXPORTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller runs on behalf of the export.
pub(super) fn is_exporting() -> bool {
    EXPORTING.get()
}

/// Why there is no such thread.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError<E> {
    #[error("the thread that exports telemetry cannot be started: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Prepare(E),
}

/// Makes something with `prepare` inside the new runtime, and runs `work` with it on the new thread.
///
/// # Errors
/// There is no thread or runtime to be had, or `prepare` fails.
pub(super) fn start<T: Send + 'static, E>(
    prepare: impl FnOnce() -> Result<T, E>,
    work: impl AsyncFnOnce(T) + Send + 'static,
) -> Result<(), ThreadError<E>> {
    let (handover, taken) = oneshot::channel::<(Runtime, T)>();
    let mut builder = Builder::new_current_thread();
    // Names are looked up on threads of the runtime's own.
    builder
        .enable_all()
        .thread_name(NAME)
        .on_thread_start(|| EXPORTING.set(true));
    // The thread comes first: a runtime that could not be handed over must not be dropped inside another one.
    let thread = thread::Builder::new().name(NAME.to_owned());
    let run = move || {
        EXPORTING.set(true);
        if let Ok((runtime, prepared)) = taken.blocking_recv() {
            runtime.block_on(work(prepared));
            runtime.shutdown_background();
        }
    };
    thread.spawn(run).map_err(ThreadError::Start)?;
    let runtime = builder.build().map_err(ThreadError::Start)?;
    let prepared = {
        let _inside = runtime.enter();
        prepare()
    };
    match prepared {
        Ok(prepared) => {
            if let Err((runtime, _)) = handover.send((runtime, prepared)) {
                runtime.shutdown_background();
            }
            Ok(())
        }
        Err(error) => {
            runtime.shutdown_background();
            Err(ThreadError::Prepare(error))
        }
    }
}
