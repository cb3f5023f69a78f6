//! Every environment variable that the program reads.
//!
//! | variable | read by | meaning |
//! | --- | --- | --- |
//! | `WARPSMITH_LOG` | here | log filter, such as `debug` or `runtime=trace`; `warn` without it |
//! | `WARPSMITH_CUDA_LIBRARY` | gpu-driver | path of the driver library |

use std::env;
use std::io::{self, IsTerminal as _};

use runtime::error::OptionError;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Failure;
use super::timings::Timings;

const LOG: &str = "WARPSMITH_LOG";

/// Sends log events that the filter lets through to stderr, in colour only where that is a terminal, and phases to `timings`.
pub fn start_logging(timings: Option<&Timings>) -> Result<(), Failure> {
    let filter = match env::var_os(LOG) {
        None => Targets::new().with_default(Level::WARN),
        Some(value) => {
            let value = value.to_string_lossy();
            let parsed = value.parse::<Targets>().ok();
            let expected = "a log filter, such as debug or runtime=trace";
            parsed.ok_or_else(|| OptionError::Text { option: LOG, value: value.into_owned(), expected })?
        }
    };
    let mut layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).without_time();
    if !io::stderr().is_terminal() {
        layer = layer.with_ansi(false);
    }
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(timings.map(Timings::layer)).init();
    Ok(())
}
