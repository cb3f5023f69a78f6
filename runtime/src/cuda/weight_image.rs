//! A model's weights as they lie on a device: which bytes of the weights' allocation come from which tensor, and how.

use std::ops::Range;

use tensor_formats::{ElementType, planes_range};

use super::engine_layout::{EngineLayout, Place};
use super::error::CudaError;
use crate::error::Error;
use crate::model::Model;

/// The weights' allocation up to the last weight. Weights lie at their places in the device's layout
/// ([`tensor_formats::planes`]), with gaps between some of them for alignment. It can be written piece by piece, in
/// any order.
#[derive(Debug)]
pub struct WeightImage<'a> {
    /// By place.
    parts: Vec<Part<'a>>,
    runs: Vec<Range<u64>>,
}

/// A weight.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The type of its elements.
    pub element: ElementType,
    /// Rows; 1 of a vector.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Its bytes in GGUF's layout.
    pub gguf: &'a [u8],
    /// Where it lies.
    pub place: Place,
}

impl Part<'_> {
    fn end(&self) -> u64 {
        self.place.offset + self.place.bytes
    }
}

impl<'a> WeightImage<'a> {
    /// The image of `model` in `layout`. Weights that no step reads, such as the factors that are folded into the
    /// rotation table, have no place and are left out.
    ///
    /// # Errors
    /// A tensor that is missing, or of another size than its place.
    pub fn new(model: &'a Model, layout: &EngineLayout) -> Result<Self, Error> {
        let mut parts = Vec::with_capacity(layout.weights.len());
        for weight in model.config().weights.iter() {
            let Some(&place) = layout.weights.get(&weight.name) else { continue };
            let gguf = model.tensor_bytes(&weight.name)?;
            if gguf.len() as u64 != place.bytes {
                let (expected, actual) = (place.bytes.to_string(), gguf.len().to_string());
                let error = CudaError::InvalidParameter { what: "the bytes of a weight", expected, actual };
                return Err(Error::device("cuda", format!("placing {}", weight.name), error));
            }
            let cols = weight.dims.last().copied().unwrap_or(1);
            let rows = weight.dims.iter().rev().skip(1).product();
            parts.push(Part { name: &weight.name, element: weight.ty, rows, cols, gguf, place });
        }
        parts.sort_by_key(|part| part.place.offset);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for part in parts.iter().filter(|part| part.place.bytes > 0) {
            match runs.last_mut() {
                Some(run) if run.end == part.place.offset => run.end = part.end(),
                _ => runs.push(part.place.offset..part.end()),
            }
        }
        Ok(Self { parts, runs })
    }

    /// Bytes up to the end of the last weight.
    pub fn bytes(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// The weights, by place.
    pub fn parts(&self) -> &[Part<'a>] {
        &self.parts
    }

    /// The byte ranges without gaps, in order.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Writes the bytes of the image from `start` on to `to`, zeros for gaps.
    ///
    /// # Errors
    /// A matrix that its type does not allow.
    pub fn fill(&self, start: u64, to: &mut [u8]) -> Result<(), CudaError> {
        let end = start + to.len() as u64;
        let first = self.parts.partition_point(|part| part.end() <= start);
        let mut at = start;
        let mut rest = to;
        for part in self.parts[first..].iter().take_while(|part| part.place.offset < end) {
            let range = at.max(part.place.offset)..end.min(part.end());
            let (gap, after) = rest.split_at_mut((range.start - at) as usize);
            gap.fill(0);
            let (bytes, after) = after.split_at_mut((range.end - range.start) as usize);
            let within = (range.start - part.place.offset) as usize..(range.end - part.place.offset) as usize;
            planes_range(part.element, part.rows, part.cols, part.gguf, within, bytes).map_err(|error| {
                let (what, expected) = ("a weight", "one that its type allows".to_owned());
                CudaError::InvalidParameter { what, expected, actual: format!("{}: {error}", part.name) }
            })?;
            (rest, at) = (after, range.end);
        }
        rest.fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tensor_formats::from_planes;

    use super::super::machine::Machine;
    use super::*;
    use crate::engine::EngineOptions;
    use crate::synthetic::{Preset, Quant, synthesize};

    fn layout(model: &Model) -> EngineLayout {
        let options = EngineOptions::for_model(model.config());
        EngineLayout::new(model.config(), &options, Machine::H200).unwrap()
    }

    #[test]
    fn every_tensor_of_every_format_comes_back() {
        for quant in Quant::ALL {
            for preset in [Preset::Tiny, Preset::TinyQwen2] {
                let model = synthesize(preset, quant, 3).unwrap();
                let layout = layout(&model);
                let image = WeightImage::new(&model, &layout).unwrap();
                let mut bytes = vec![0xee; image.bytes() as usize];
                image.fill(0, &mut bytes).unwrap();
                assert!(!image.parts().is_empty());
                for part in image.parts() {
                    let Place { offset, bytes: len } = part.place;
                    assert_eq!(layout.weights[part.name], part.place);
                    let device = &bytes[offset as usize..][..len as usize];
                    let mut back = vec![0xee; device.len()];
                    from_planes(part.element, part.rows, part.cols, device, &mut back).unwrap();
                    assert_eq!(back, model.tensor_bytes(part.name).unwrap(), "{} {quant:?}", part.name);
                }
            }
        }
    }

    #[test]
    fn pieces_of_any_size_make_the_same_image() {
        let model = Model::embedded().unwrap();
        let layout = layout(&model);
        let image = WeightImage::new(&model, &layout).unwrap();
        let mut whole = vec![0xee; image.bytes() as usize];
        image.fill(0, &mut whole).unwrap();
        for size in [100_003, 65_536, 4_001] {
            let mut pieces = vec![0xee; whole.len()];
            for (index, piece) in pieces.chunks_mut(size).enumerate() {
                image.fill((index * size) as u64, piece).unwrap();
            }
            assert!(pieces == whole, "pieces of {size}");
        }
        let mut beyond = [0xee; 10];
        image.fill(image.bytes() - 5, &mut beyond).unwrap();
        assert_eq!((&beyond[..5], &beyond[5..]), (&whole[whole.len() - 5..], &[0; 5][..]));
    }

    #[test]
    fn runs_are_the_parts_without_gaps() {
        let model = Model::embedded().unwrap();
        let layout = layout(&model);
        let image = WeightImage::new(&model, &layout).unwrap();
        let total: u64 = image.parts().iter().map(|part| part.place.bytes).sum();
        assert_eq!(image.runs().iter().map(|run| run.end - run.start).sum::<u64>(), total);
        assert!(image.runs().windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", image.runs());
    }
}
