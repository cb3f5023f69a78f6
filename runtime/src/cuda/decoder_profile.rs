//! What a decoder tells of its device: how long the launches of a step take, and what the device could do.

use super::decoder::{CudaDecoder, Purpose, driver_failed, failed};
use super::profile::{Profile, ProfileOptions, profile};
use super::roof::{arithmetic_rate, read_rate};
use crate::decoder::{Output, Row};
use crate::error::Error;

impl CudaDecoder {
    /// The device's name.
    ///
    /// # Errors
    /// The driver's failure.
    pub fn device_name(&self) -> Result<String, Error> {
        self.cache.context().device().name().map_err(driver_failed("asking for the device's name"))
    }

    /// Bytes per second at which the device reads `bytes` bytes of memory: see [`read_rate`].
    ///
    /// # Errors
    /// The driver's failure, such as memory that is not there.
    pub fn read_rate(&self, bytes: u64, runs: usize) -> Result<f64, Error> {
        read_rate(&self.cache, &self.stream, bytes, runs).map_err(failed("measuring how fast memory is read"))
    }

    /// Operations per second of the device in f32, if that is known: see [`arithmetic_rate`].
    ///
    /// # Errors
    /// The driver's failure.
    pub fn arithmetic_rate(&self) -> Result<Option<f64>, Error> {
        arithmetic_rate(self.cache.context()).map_err(failed("asking for the device's speed"))
    }

    /// The device's time for each step of the plan for these rows, which the decoder then has done. The context of
    /// `options` is replaced by that of the rows.
    ///
    /// # Errors
    /// As [`step`](crate::decoder::Decoder::step).
    pub fn profile(
        &mut self,
        rows: &[Row],
        output: Output,
        options: ProfileOptions,
    ) -> Result<Profile, Error> {
        self.guard.check(rows, output)?;
        let (purpose, count) = (Purpose::Step(output), self.rows_of_plan(rows.len(), output));
        self.settle()?;
        self.prepare(count, purpose)?;
        self.write_state(rows, count)?;
        self.idle = false;
        let context = rows.iter().map(|row| u64::from(row.position) + 1).max().unwrap_or(0);
        let options = ProfileOptions { context, ..options };
        let times = profile(&self.prepared(count, purpose)?.plan, &self.stream, options)
            .map_err(failed("profiling a step"))?;
        self.idle = true;
        self.guard.commit(rows);
        Ok(times)
    }
}
