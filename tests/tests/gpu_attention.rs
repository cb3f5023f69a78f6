//! Attention and KV scatter as plain functions on device memory.

use gpu_driver::{DeviceBuffer, Stream};
use kernels::CacheShape;
use kernels::attention::{Attention, AttentionInputs};
use kernels::random::Random;
use runtime::cuda::CudaError;
use runtime::cuda::attention_ops::{AttentionInput, AttentionOps, AttentionShape};
use runtime::cuda::runner::CudaRunner;
use tensor_formats::ElementType;
use tests::gpu;

const SHAPE: AttentionShape =
    AttentionShape { n_heads: 8, n_kv_heads: 2, head_dim: 64, max_seq: 1100, scale: 0.125 };

fn cache_len(shape: &AttentionShape) -> usize {
    shape.n_kv_heads * shape.max_seq * shape.head_dim
}

/// A query and two caches, on the host and on the device.
struct Tensors {
    host: [Vec<f32>; 3],
    query: DeviceBuffer<f32>,
    keys: DeviceBuffer<f32>,
    values: DeviceBuffer<f32>,
    output: DeviceBuffer<f32>,
}

fn tensors(stream: &Stream, shape: &AttentionShape) -> Tensors {
    let mut random = Random::new(shape.n_heads as u64);
    let n = shape.n_heads * shape.head_dim;
    let host = [n, cache_len(shape), cache_len(shape)].map(|n| random.f32s(n));
    let [query, keys, values] = [0, 1, 2].map(|i: usize| DeviceBuffer::from_slice(stream, &host[i]).unwrap());
    let output = DeviceBuffer::from_slice(stream, &vec![f32::NAN; n]).unwrap();
    Tensors { host, query, keys, values, output }
}

impl Tensors {
    fn input(&self, seq_len: usize) -> AttentionInput<'_> {
        AttentionInput {
            query: self.query.as_slice(),
            keys: self.keys.as_slice(),
            values: self.values.as_slice(),
            seq_len,
        }
    }

    fn expected(&self, shape: &AttentionShape, seq_len: usize) -> Vec<f64> {
        let AttentionShape { n_heads, n_kv_heads, head_dim, max_seq, scale } = *shape;
        let element = ElementType::F32;
        let cache = CacheShape { n_sequences: 1, n_kv_heads, max_seq, head_dim, element };
        let [q, k_cache, v_cache] = &self.host;
        let positions = [seq_len as u32 - 1];
        let inputs = AttentionInputs { q, k_cache, v_cache, positions: &positions, sequences: &[0] };
        Attention::new(cache, 1, n_heads, scale).unwrap().reference(inputs)
    }
}

fn distance(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).powi(2)).sum();
    (error / want.iter().map(|w| w * w).sum::<f64>()).sqrt()
}

fn ops(runner: &CudaRunner, shape: AttentionShape) -> AttentionOps {
    AttentionOps::new(runner.cache(), shape).unwrap()
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_three_forms_agree_with_the_reference() {
    let runner = gpu::runner();
    let stream = runner.stream();
    let multi_head = AttentionShape { n_kv_heads: 8, head_dim: 128, max_seq: 1025, ..SHAPE };
    for shape in [SHAPE, multi_head] {
        let ops = ops(&runner, shape);
        let mut t = tensors(stream, &shape);
        for seq_len in [1, 31, 32, 33, 1025] {
            let expected = t.expected(&shape, seq_len);
            let mut outputs = Vec::new();
            for form in 0..3 {
                let mut output = DeviceBuffer::from_slice(stream, &vec![f32::NAN; t.output.len()]).unwrap();
                let target = &mut output.as_slice_mut();
                match form {
                    0 => ops.attention(t.input(seq_len), target).unwrap(),
                    1 => ops.attention_on(stream, t.input(seq_len), target).unwrap(),
                    _ => ops.attention_async(t.input(seq_len), target).unwrap().synchronize().unwrap(),
                }
                outputs.push(stream.read_to_vec(&output.as_slice()).unwrap());
                t.output = output;
            }
            assert!(distance(&outputs[0], &expected) < 1e-5, "length {seq_len}");
            assert!(outputs.iter().all(|output| *output == outputs[0]), "length {seq_len}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn an_empty_sequence_gives_zeros() {
    let runner = gpu::runner();
    let ops = ops(&runner, SHAPE);
    let t = tensors(runner.stream(), &SHAPE);
    let mut output = DeviceBuffer::from_slice(runner.stream(), &vec![f32::NAN; t.output.len()]).unwrap();
    ops.attention(t.input(0), &mut output.as_slice_mut()).unwrap();
    assert!(runner.stream().read_to_vec(&output.as_slice()).unwrap().iter().all(|v| v.to_bits() == 0));
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_scatter_writes_one_position_of_each_head_and_nothing_else() {
    let runner = gpu::runner();
    let stream = runner.stream();
    for head_dim in [64, 80, 128] {
        let shape = AttentionShape { head_dim, max_seq: 33, ..SHAPE };
        let ops = ops(&runner, shape);
        let mut expected = Random::new(9).f32s(cache_len(&shape));
        let mut cache = DeviceBuffer::from_slice(stream, &expected).unwrap();
        for (form, position) in [0, 32, 31].into_iter().enumerate() {
            let row = Random::new(position as u64).f32s(shape.n_kv_heads * head_dim);
            let device_row = DeviceBuffer::from_slice(stream, &row).unwrap();
            let target = &mut cache.as_slice_mut();
            match form {
                0 => ops.scatter(target, device_row.as_slice(), position).unwrap(),
                1 => ops.scatter_on(stream, target, device_row.as_slice(), position).unwrap(),
                _ => {
                    ops.scatter_async(target, device_row.as_slice(), position).unwrap().synchronize().unwrap()
                }
            }
            for (head, features) in row.chunks(head_dim).enumerate() {
                let at = (head * shape.max_seq + position) * head_dim;
                expected[at..at + head_dim].copy_from_slice(features);
            }
            assert!(stream.read_to_vec(&cache.as_slice()).unwrap() == expected, "position {position}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_does_not_fit_is_refused_with_both_numbers() {
    let runner = gpu::runner();
    let ops = ops(&runner, SHAPE);
    let t = tensors(runner.stream(), &SHAPE);
    let n = SHAPE.n_heads * SHAPE.head_dim;
    let mut output = DeviceBuffer::from_slice(runner.stream(), &vec![0.0f32; n]).unwrap();
    let check = |result: Result<(), CudaError>, numbers: [usize; 2]| {
        let Err(error @ CudaError::InvalidParameter { .. }) = result else { panic!("{result:?}") };
        let text = error.to_string();
        assert!(numbers.iter().all(|n| text.contains(&n.to_string())), "{text}");
    };
    let whole = t.input(1);
    let short = AttentionInput { query: t.query.slice(1..).unwrap(), ..whole };
    check(ops.attention(short, &mut output.as_slice_mut()), [n, n - 1]);
    let len = cache_len(&SHAPE);
    let short = AttentionInput { keys: t.keys.slice(..len - 64).unwrap(), ..whole };
    check(ops.attention(short, &mut output.as_slice_mut()), [len, len - 64]);
    let short = AttentionInput { values: t.values.slice(..len - 64).unwrap(), ..whole };
    check(ops.attention(short, &mut output.as_slice_mut()), [len, len - 64]);
    check(ops.attention(t.input(1101), &mut output.as_slice_mut()), [1100, 1101]);
    let mut half = output.slice_mut(..n / 2).unwrap();
    check(ops.attention(whole, &mut half), [n, n / 2]);

    let mut cache = DeviceBuffer::from_slice(runner.stream(), &t.host[1]).unwrap();
    let row = t.query.slice(..SHAPE.n_kv_heads * SHAPE.head_dim).unwrap();
    check(ops.scatter(&mut cache.as_slice_mut(), row, 1100), [1100, 1100]);
    check(ops.scatter(&mut cache.as_slice_mut(), row, usize::MAX), [1100, usize::MAX]);
    check(ops.scatter(&mut cache.as_slice_mut(), t.query.as_slice(), 0), [128, 512]);
    check(ops.scatter(&mut cache.slice_mut(..len / 2).unwrap(), row, 0), [len, len / 2]);
    assert!(runner.stream().read_to_vec(&cache.as_slice()).unwrap() == t.host[1], "nothing was written");
}
