//! How fast a matrix is taken apart into planes on one core, in pieces as a loader does it, beside copying it and beside
//! reading it from a file that the system holds in memory.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor_formats::{ElementType, planes_range};

const COLS: usize = 4096;
const PIECE: usize = 512 << 10;
/// Larger than the caches of a core, if not of all processors.
const BYTES: usize = 48 << 20;

fn planes(c: &mut Criterion) {
    let mut group = c.benchmark_group("planes");
    group.sample_size(10).throughput(Throughput::Bytes(BYTES as u64));
    let source: Vec<u8> = (0..BYTES).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut out = vec![0; BYTES];
    group.bench_function("copy", |b| {
        b.iter(|| {
            for (to, from) in out.chunks_mut(PIECE).zip(source.chunks(PIECE)) {
                to.copy_from_slice(black_box(from));
            }
        });
    });
    let path = std::env::temp_dir().join(format!("planes-{}", std::process::id()));
    File::create_new(&path).and_then(|mut file| file.write_all(&source)).unwrap();
    let mut file = File::open(&path).unwrap();
    group.bench_function("read", |b| {
        b.iter(|| {
            file.seek(SeekFrom::Start(0)).unwrap();
            out.chunks_mut(PIECE).for_each(|to| file.read_exact(to).unwrap());
        });
    });
    std::fs::remove_file(&path).unwrap();
    for ty in ElementType::WEIGHTS {
        let rows = BYTES / ty.row_bytes(COLS).unwrap();
        let bytes = ty.matrix_bytes(rows, COLS).unwrap();
        let matrix = &source[..bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("planes", ty), |b| {
            b.iter(|| {
                for (index, to) in out[..bytes].chunks_mut(PIECE).enumerate() {
                    let range = index * PIECE..index * PIECE + to.len();
                    planes_range(ty, rows, COLS, black_box(matrix), range, to).unwrap();
                }
            });
        });
    }
}

criterion_group!(benches, planes);
criterion_main!(benches);
