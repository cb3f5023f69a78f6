//! What a launch may ask for.

use gpu_driver::sys::{
    CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CUfunction, CUlaunchAttribute, CUlaunchAttributeValue,
    CUlaunchConfig, CUresult,
};
use gpu_driver::{DeviceBuffer, DriverError, KernelArgs, LaunchConfig, Module};
use gpu_driver_sim::{SimConfig, Target};

use crate::support::{Gpu, words};

type Dims = [u32; 3];

/// Launches without the checks of the safe layer.
fn launch(gpu: &Gpu, function: CUfunction, grid: Dims, block: Dims, shared: u32, args: &[u64]) -> CUresult {
    gpu.context.make_current().unwrap();
    let mut params: Vec<*mut std::ffi::c_void> =
        args.iter().map(|a| (&raw const *a).cast_mut().cast()).collect();
    let params = if params.is_empty() { std::ptr::null_mut() } else { params.as_mut_ptr() };
    let stream = gpu.stream.handle();
    // SAFETY: each pointer is to eight bytes, which is as much as any parameter here has; the driver checks the rest.
    unsafe {
        (gpu.driver.table().launch_kernel)(
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            shared,
            stream,
            params,
            std::ptr::null_mut(),
        )
    }
}

#[test]
fn geometry_is_checked_when_a_launch_is_queued() {
    let gpu = Gpu::new();
    let (nothing, triple, add) = (gpu.function("nothing"), gpu.function("triple"), gpu.function("add"));
    let (ok, invalid) = (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE);
    let one = [1; 3];
    for (grid, block, expected) in [
        (one, [1024, 1, 1], ok),
        (one, [1025, 1, 1], invalid),
        (one, [32, 33, 1], invalid),
        (one, [1, 1, 65], invalid),
        (one, [0, 1, 1], invalid),
        ([0, 1, 1], one, invalid),
        ([1, 65_536, 1], one, invalid),
        ([1, 1, 65_535], one, ok),
    ] {
        assert_eq!(launch(&gpu, nothing.handle(), grid, block, 0, &[]), expected, "{grid:?} {block:?}");
    }
    let data = DeviceBuffer::from_slice(&gpu.stream, &[1u32; 128]).unwrap();
    let args = [data.device_ptr().0, 5];
    // `.reqntid 4` and `.maxntid 128`.
    assert_eq!(launch(&gpu, triple.handle(), one, [4, 1, 1], 0, &args[..1]), ok);
    assert_eq!(launch(&gpu, triple.handle(), one, [8, 1, 1], 0, &args[..1]), invalid);
    assert_eq!(launch(&gpu, triple.handle(), one, [2, 2, 1], 0, &args[..1]), invalid);
    assert_eq!(launch(&gpu, add.handle(), one, [128, 1, 1], 0, &args), ok);
    assert_eq!(launch(&gpu, add.handle(), one, [129, 1, 1], 0, &args), invalid);
    assert_eq!(launch(&gpu, add.handle(), one, one, 0, &[]), invalid, "without arguments");
    gpu.stream.synchronize().unwrap();
    assert_eq!(gpu.stream.read_to_vec(&data.slice(0..5).unwrap()).unwrap(), [8, 8, 8, 8, 6]);
    drop((nothing, triple, add, data));
    gpu.finish();
}

#[test]
fn shared_memory_beyond_48_kib_has_to_be_asked_for() {
    for (target, optin) in [(Target::SM_90, 227 << 10), (Target::SM_75, 64 << 10)] {
        let gpu = Gpu::with(SimConfig { target, ..SimConfig::default() });
        let big = gpu.function("big");
        assert_eq!(big.attributes().static_shared_bytes, 16 << 10);
        assert_eq!(big.max_dynamic_shared(), 32 << 10);
        let data = DeviceBuffer::from_slice(&gpu.stream, &[0u32]).unwrap();
        let go = |shared| launch(&gpu, big.handle(), [1; 3], [1; 3], shared, &[data.device_ptr().0]);
        assert_eq!(go(32 << 10), CUresult::SUCCESS);
        assert_eq!(go((32 << 10) + 1), CUresult::ERROR_INVALID_VALUE);
        let most = optin - (16 << 10);
        assert!(big.allow_dynamic_shared(most + 1).is_err());
        big.allow_dynamic_shared(most).unwrap();
        assert_eq!((go(most), go(most + 1)), (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE));
        gpu.stream.synchronize().unwrap();
        assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), [5]);
        drop((big, data));
        gpu.finish();
    }
}

#[test]
fn arguments_may_come_as_one_buffer() {
    let gpu = Gpu::new();
    let add = gpu.function("add");
    let data = DeviceBuffer::from_slice(&gpu.stream, &[1u32, 2]).unwrap();
    let mut packed = data.device_ptr().0.to_le_bytes().to_vec();
    packed.extend(30u32.to_le_bytes());
    let table = gpu.driver.table();
    let mut go = |mut size: usize| {
        let key = |n: usize| std::ptr::without_provenance_mut::<std::ffi::c_void>(n);
        let mut extra = [key(1), packed.as_mut_ptr().cast(), key(2), (&raw mut size).cast(), key(0)];
        let (null, stream) = (std::ptr::null_mut(), gpu.stream.handle());
        // SAFETY: the buffer has as many bytes as its size says, or more, and lives during the call.
        unsafe { (table.launch_kernel)(add.handle(), 1, 1, 1, 2, 1, 1, 0, stream, null, extra.as_mut_ptr()) }
    };
    assert_eq!(go(11), CUresult::ERROR_INVALID_VALUE);
    assert_eq!(go(12), CUresult::SUCCESS);
    assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), [31, 32]);
    assert_eq!(words(&gpu.sim.take_launches()[0].args[1]), [30]);
    drop((add, data));
    gpu.finish();
}

#[test]
fn clusters_are_placed_or_refused() {
    let gpu = Gpu::new();
    let module = Module::from_ptx(&gpu.context, include_str!("pdl.ptx")).unwrap();
    let clustered = module.function("clustered").unwrap();
    let data = DeviceBuffer::<u32>::uninit(&gpu.context, 16).unwrap();
    let args = || KernelArgs::new().with(&data);
    let config = |grid: u32, cluster: u32| LaunchConfig::new(grid, 1).with_cluster(cluster);
    // SAFETY: each block writes one word of the buffer, which outlives the wait.
    let go = |grid, cluster| unsafe { clustered.launch(&gpu.stream, &config(grid, cluster), &args()) };
    go(8, 4).unwrap();
    let first = data.slice(..8).unwrap();
    assert_eq!(gpu.stream.read_to_vec(&first).unwrap(), [0, 1, 2, 3, 0, 1, 2, 3]);
    assert!(clustered.max_active_clusters(&config(8, 8)).unwrap() > 0);
    // Beyond the portable eight: without the checks of the safe layer, with them, and when it is allowed.
    let mut attribute = CUlaunchAttribute {
        id: CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: CUlaunchAttributeValue { cluster_dim: [16, 1, 1] },
    };
    let raw = CUlaunchConfig {
        grid_dim: [16, 1, 1],
        block_dim: [1; 3],
        shared_mem_bytes: 0,
        stream: gpu.stream.handle(),
        attrs: &mut attribute,
        num_attrs: 1,
    };
    let mut clusters = 0;
    let active = gpu.driver.table().occupancy_max_active_clusters.unwrap();
    // SAFETY: the count goes to a local; the configuration and its attribute live during the call.
    let answer = unsafe { active(&mut clusters, clustered.handle(), &raw) };
    assert_eq!(answer, CUresult::ERROR_INVALID_CLUSTER_SIZE);
    assert!(matches!(go(16, 16), Err(DriverError::Launch { .. })));
    clustered.allow_non_portable_clusters().unwrap();
    go(16, 16).unwrap();
    assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), (0..16).collect::<Vec<u32>>());
    drop((clustered, module, data));
    gpu.finish();
}

#[test]
fn occupancy_is_what_fits() {
    let gpu = Gpu::new();
    let (nothing, big) = (gpu.function("nothing"), gpu.function("big"));
    assert_eq!(nothing.max_active_blocks(1024, 0).unwrap(), 2);
    assert_eq!(nothing.max_active_blocks(32, 0).unwrap(), 32);
    // 228 KiB hold 13 times 16 KiB and the reserved one.
    assert_eq!(big.max_active_blocks(32, 0).unwrap(), 13);
    let best = nothing.suggested_block(0).unwrap();
    assert_eq!((best.block_threads, best.min_grid), (1024, 2 * 132));
    drop((nothing, big));
    gpu.finish();
}

#[test]
fn attributes_are_those_of_the_kernel() {
    let gpu = Gpu::new();
    let add = gpu.function("add");
    let attributes = add.attributes();
    assert_eq!(
        (attributes.max_threads_per_block, attributes.ptx_target, attributes.binary_target),
        (128, 75, 90)
    );
    assert_eq!((attributes.static_shared_bytes, attributes.local_bytes, attributes.const_bytes), (0, 0, 0));
    assert_eq!(add.parameter_sizes(), Some(&[8, 4][..]));
    drop(add);
    gpu.finish();
}
