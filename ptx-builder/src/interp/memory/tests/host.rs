//! The host's view.

use super::*;
use proptest::prelude::*;

#[test]
fn errors_of_the_host() {
    let memory = Memory::new();
    assert_eq!(memory.alloc(0), Err(MemoryError::Empty));
    memory.set_limit(Some(100));
    let a = memory.alloc(60).expect("memory");
    assert_eq!(
        memory.alloc(41),
        Err(MemoryError::OutOfMemory { requested: 41, in_use: 60, limit: Some(100) })
    );
    memory.set_limit(None);
    assert!(matches!(memory.alloc(u64::MAX), Err(MemoryError::OutOfMemory { .. })));
    assert!(matches!(memory.alloc(1 << 62), Err(MemoryError::OutOfMemory { .. })));
    assert_eq!(a % 256, 0);
    assert_eq!(
        memory.read(a + 58, &mut [0; 3]),
        Err(MemoryError::OutOfBounds { address: a + 58, bytes: 3, base: a, allocated: 60 })
    );
    assert_eq!(memory.write(a + 60, &[0]), Err(MemoryError::NotAllocated { address: a + 60 }));
    assert_eq!(memory.free(a + 1), Err(MemoryError::NotABase { address: a + 1, base: a }));
    assert_eq!(memory.unmap_host(a), Err(MemoryError::WrongKind { base: a, host: false }));
    assert_eq!(memory.fill(a, &[1, 2, 3], 1), Err(MemoryError::Pattern { bytes: 3 }));
    assert_eq!(
        memory.fill(a + 2, &[1, 2, 3, 4], 1),
        Err(MemoryError::Misaligned { address: a + 2, alignment: 4 })
    );
    assert!(memory.fill(a, &[1, 2], u64::MAX).is_err());
    assert_eq!(memory.bytes_in_use(), 60);
    memory.free(a).expect("live");
    assert_eq!(memory.free(a), Err(MemoryError::Freed { address: a, base: a, bytes: 60 }));
    assert_eq!(memory.free(a - 1), Err(MemoryError::NotAllocated { address: a - 1 }));
    assert_eq!((memory.bytes_in_use(), memory.live()), (0, vec![]));
}

#[test]
fn host_memory_at_its_own_address() {
    let memory = Memory::new();
    let mut host = vec![0u32; 66];
    // An odd address and length, so that words at both ends are not wholly inside.
    let start = host.as_mut_ptr().cast::<u8>().wrapping_add(3);
    // SAFETY: the 258 bytes lie in `host`, which outlives the launch and is not touched until the mapping ends.
    let a = unsafe { memory.map_host(start, 258) }.expect("not mapped");
    // SAFETY: as above.
    let again = unsafe { memory.map_host(start.wrapping_add(100), 8) };
    assert!(matches!(again, Err(MemoryError::Overlap { .. })));
    assert_eq!(a, start as u64);
    assert_eq!(memory.find(a + 257).map(|found| found.kind), Some(AllocationKind::Host));
    assert_eq!(memory.find(a + 258), None);
    let launch = launch(&memory);
    let mut cluster = block(&launch, 0);
    write(&mut cluster, 0, weak(Space::Global, 1), a, 0x11);
    write(&mut cluster, 0, GLOBAL, a + 1, 0x2233_4455);
    write(&mut cluster, 0, weak(Space::Global, 1), a + 257, 0x66);
    assert_eq!(read(&mut cluster, 0, weak(Space::Global, 1), a), 0x11);
    let fault = cluster.store(at(0, 0), &GLOBAL, 1, &[a + 257; LANES], &[[0; 8]; LANES]);
    assert!(fault.is_err());
    drop(cluster);
    assert_eq!(found(launch), []);
    let mut bytes = [0; 258];
    memory.read(a, &mut bytes).expect("readable");
    assert_eq!((&bytes[..6], bytes[257]), (&[0x11, 0x55, 0x44, 0x33, 0x22, 0][..], 0x66));
    assert_eq!(memory.free(a), Err(MemoryError::WrongKind { base: a, host: true }));
    memory.unmap_host(a).expect("mapped");
    assert_eq!(host[0], 0x1100_0000);
    assert_eq!(host[1], 0x2233_4455);
    assert_eq!(host[65], 0x66);
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize, Vec<u8>),
    Copy(usize, usize, usize, usize, usize),
    Fill(usize, usize, u8, usize, usize),
    Replace(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, 0..200usize, proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(a, at, d)| Step::Write(a, at, d)),
        (0..3usize, 0..200usize, 0..3usize, 0..200usize, 0..120usize)
            .prop_map(|(to, at, from, from_at, len)| Step::Copy(to, at, from, from_at, len)),
        (0..3usize, 0..200usize, any::<u8>(), 0..3usize, 0..40usize)
            .prop_map(|(a, at, byte, log, count)| Step::Fill(a, at, byte, log, count)),
        (0..3usize, 1..200usize).prop_map(|(a, bytes)| Step::Replace(a, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Memory does what plain vectors of optional bytes do.
    #[test]
    fn memory_is_a_vector(steps in proptest::collection::vec(step(), 1..40)) {
        let memory = Memory::new();
        let mut model: Vec<Vec<Option<u8>>> = vec![vec![None; 150]; 3];
        let mut bases: Vec<u64> = (0..3).map(|_| memory.alloc(150).expect("memory")).collect();
        for step in steps {
            match step {
                Step::Write(a, at, data) => {
                    let inside = at < model[a].len() && at + data.len() <= model[a].len();
                    prop_assert_eq!(memory.write(bases[a] + at as u64, &data).is_ok(), inside);
                    if inside {
                        for (to, from) in model[a][at..].iter_mut().zip(&data) {
                            *to = Some(*from);
                        }
                    }
                }
                Step::Copy(to, at, from, from_at, len) => {
                    let fits = |a: usize, at: usize| at < model[a].len() && at + len <= model[a].len();
                    let inside = fits(to, at) && fits(from, from_at);
                    let result = memory.copy(bases[to] + at as u64, bases[from] + from_at as u64, len as u64);
                    prop_assert_eq!(result.is_ok(), inside);
                    if inside {
                        let data = model[from][from_at..from_at + len].to_vec();
                        model[to][at..at + len].copy_from_slice(&data);
                    }
                }
                Step::Fill(a, at, byte, log, count) => {
                    let pattern: Vec<u8> = (0..1u8 << log).map(|i| byte.wrapping_add(i)).collect();
                    let len = pattern.len() * count;
                    let aligned = at % pattern.len() == 0;
                    let inside = aligned && at < model[a].len() && at + len <= model[a].len();
                    prop_assert_eq!(memory.fill(bases[a] + at as u64, &pattern, count as u64).is_ok(), inside);
                    if inside {
                        for (to, from) in model[a][at..at + len].iter_mut().zip(pattern.iter().cycle()) {
                            *to = Some(*from);
                        }
                    }
                }
                Step::Replace(a, bytes) => {
                    memory.free(bases[a]).expect("live");
                    bases[a] = memory.alloc(bytes as u64).expect("memory");
                    model[a] = vec![None; bytes];
                }
            }
            for (base, model) in bases.iter().zip(&model) {
                let mut bytes = vec![0; model.len()];
                memory.read(*base, &mut bytes).expect("readable");
                for (i, (byte, model)) in bytes.iter().zip(model).enumerate() {
                    prop_assert_eq!(memory.initialised(base + i as u64, 1), model.is_some());
                    if let Some(model) = model {
                        prop_assert_eq!(byte, model);
                    }
                }
                prop_assert_eq!(memory.initialised(*base, model.len() as u64), model.iter().all(Option::is_some));
            }
        }
        let total: usize = model.iter().map(Vec::len).sum();
        prop_assert_eq!(memory.bytes_in_use(), total as u64);
    }
}
