//! A model's weights on their way to the device: from the model file, reordered, or from a cache of that.

use super::decoder::failed;
use super::engine_layout::{EngineLayout, Place};
use super::memory::DeviceMemory;
use super::memory_map::{RegionId, Span};
use super::upload::{UploadTimes, Uploader};
use super::weight_cache::{CachedImage, Refusal, WeightCache};
use super::weight_image::WeightImage;
use crate::engine::EngineOptions;
use crate::error::{Error, chain};
use crate::model::Model;
use crate::startup::phase;

/// What fills the weights' allocation.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    model: &'a Model,
    image: WeightImage<'a>,
    cache: Option<WeightCache>,
    memory: DeviceMemory,
    region: RegionId,
    rope_table: Place,
    max_seq: usize,
}

impl<'a> Weights<'a> {
    /// The weights of `model` for region `region` of `memory`.
    ///
    /// # Errors
    /// A tensor that is missing, or of another size than its place.
    pub fn new(
        model: &'a Model,
        options: &EngineOptions,
        layout: &EngineLayout,
        (memory, region): (DeviceMemory, RegionId),
    ) -> Result<Self, Error> {
        let image = WeightImage::new(model, layout)?;
        let cache = options.weights_cache.as_ref().and_then(|directory| {
            let cache = WeightCache::new(directory, model, &image);
            if cache.is_none() {
                tracing::warn!("the model is in no file: its weights are not cached");
            }
            cache
        });
        let (rope_table, max_seq) = (layout.rope_table, options.max_seq);
        Ok(Self { model, image, cache, memory, region, rope_table, max_seq })
    }

    /// Fills the allocation, tables included, and waits until all of it is on the device. Then writes the cache, if one
    /// is wanted that is not there or not sound; that it cannot be written is a warning.
    ///
    /// # Errors
    /// The driver's failure, or a table that cannot be made.
    pub fn send(&self) -> Result<(), Error> {
        let cached = self.cache.as_ref().and_then(open);
        self.send_from(cached.as_ref())?;
        let Some(cache) = &self.cache else { return Ok(()) };
        let path = cache.path().display();
        match cached.map(|cached| cached.damaged()) {
            Some(0) => return Ok(()),
            Some(damaged) => {
                tracing::warn!("{damaged} pieces of the weights' cache {path} are damaged: it is made anew");
            }
            None => {}
        }
        let written = phase!("cache").in_scope(|| cache.write(&self.image));
        if let Err(error) = written {
            tracing::warn!("the weights' cache {path} cannot be written: {error}");
        }
        Ok(())
    }

    fn send_from(&self, cached: Option<&CachedImage>) -> Result<(), Error> {
        let phase = phase!("weights").entered();
        let (image, region) = (&self.image, self.region);
        phase.record("bytes", image.bytes());
        let mut uploader =
            Uploader::new(self.memory.context(), image.bytes()).map_err(failed("uploading weights"))?;
        let span = Span { region, offset: 0, bytes: image.bytes() };
        uploader
            .send_image(&self.memory, span, image.runs(), |start, to| {
                match cached.is_some_and(|cached| cached.read(start, to)) {
                    true => Ok(()),
                    false => image.fill(start, to),
                }
            })
            .map_err(failed("uploading weights"))?;
        let table = self.model.rope_table(self.max_seq)?;
        let Place { offset, bytes } = self.rope_table;
        uploader
            .send_to(&self.memory, Span { region, offset, bytes }, bytemuck::cast_slice(&table))
            .map_err(failed("uploading the rotation table"))?;
        let UploadTimes { filling, waiting } = uploader.times();
        uploader.finish().map_err(failed("uploading weights"))?;
        let how = if cached.is_some() { "from the cache" } else { "reordered" };
        let detail = format!("{how}; filling {filling:.1?}, waiting for copies {waiting:.1?}");
        phase.record("detail", detail.as_str());
        Ok(())
    }
}

/// Opens a cache. One that is of no use is told of.
fn open(cache: &WeightCache) -> Option<CachedImage> {
    match cache.open() {
        Ok(cached) => Some(cached),
        Err(Refusal::Missing) => None,
        Err(refusal) => {
            let (path, reason) = (cache.path().display(), chain(&refusal));
            tracing::warn!("the weights' cache {path} is made anew: {reason}");
            None
        }
    }
}
