//! Prints a kernel: the dot product of each row of a matrix with a vector, one block per row.

use ptx_builder::{F32, Module, Target, U32};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut module = Module::new(Target::SM_80);
    module.kernel("row_dot", |k| {
        k.reqntid(128, 1, 1);
        // y[row] = sum over i of matrix[row * cols + i] * x[i]; cols is a multiple of 4.
        let matrix = k.param_ptr("matrix", 16);
        let x = k.param_ptr("x", 16);
        let y = k.param_ptr("y", 4);
        let rows = k.param::<U32>("rows");
        let cols = k.param::<U32>("cols");
        let partial = k.shared::<F32>("partial", 4);

        let row = k.ctaid_x();
        let tid = k.tid_x();
        let outside = k.ge(row, rows);
        k.ret_if(outside);

        let first = k.mul_wide(row, cols);
        let bytes = k.shl(first, 2);
        let row_start = k.add(matrix, bytes);
        let acc = k.named_var::<F32>("acc", 0.0);
        let start = k.shl(tid, 2);
        k.for_range(start, cols, 128 * 4, |k, i| {
            k.comment("four products per thread and step");
            let w_addr = k.ptr_index(row_start, i, 4);
            let x_addr = k.ptr_index(x, i, 4);
            let w = k.ld_global_v4::<F32>(w_addr);
            let v = k.ld_global_v4::<F32>(x_addr);
            k.unroll(4, |k, j| {
                let j = j as usize;
                k.update(acc, |k, acc| k.fma(w[j], v[j], acc));
            });
        });

        k.comment("sum over the warp, then over the warps");
        let warp_sum = k.warp_sum(acc);
        let lane = k.and(tid, 31);
        let warp = k.shr(tid, 5);
        let slot = k.shared_index(partial, warp);
        let first_lane = k.eq(lane, 0);
        k.if_(first_lane, |k| k.st_shared::<F32>(slot, warp_sum));
        k.barrier();
        let first_thread = k.eq(tid, 0);
        k.if_(first_thread, |k| {
            let [a, b, c, d] = k.ld_shared_v4::<F32>(partial);
            let ab = k.add(a, b);
            let cd = k.add(c, d);
            let sum = k.add(ab, cd);
            let out = k.ptr_index(y, row, 4);
            k.st_global::<F32>(out, sum);
        });
    });
    use std::io::Write as _;
    let verified = module.verify()?;
    std::io::stdout().write_all(verified.ptx().as_bytes())?;
    Ok(())
}
