// Numbers with a fixed point: the functions of `fixed.rs`, and sums and maxima over a workgroup,
// which are exact and therefore the same in any order.

const STATE_BITS: u32 = 12u;
const STATE_MAX: i32 = 1048576;

var<workgroup> partial: array<i32, THREADS>;

fn bits(value: i32) -> i32 {
    return 32 - i32(countLeadingZeros(u32(value)));
}

fn shift(value: i32, by: i32) -> i32 {
    if by < 0 {
        return value << u32(-by);
    }
    return value >> u32(min(by, 31));
}

fn square_root(value: i32) -> i32 {
    var root = 0;
    for (var bit = 15; 0 <= bit; bit -= 1) {
        let trial = root + (1 << u32(bit));
        if trial <= 46340 && trial * trial <= value {
            root = trial;
        }
    }
    return root;
}

fn sum_of(thread: u32, value: i32) -> i32 {
    partial[thread] = value;
    workgroupBarrier();
    for (var width = THREADS / 2u; 0u < width; width /= 2u) {
        if thread < width {
            partial[thread] += partial[thread + width];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

fn max_of(thread: u32, value: i32) -> i32 {
    partial[thread] = value;
    workgroupBarrier();
    for (var width = THREADS / 2u; 0u < width; width /= 2u) {
        if thread < width {
            partial[thread] = max(partial[thread], partial[thread + width]);
        }
        workgroupBarrier();
    }
    let largest = partial[0];
    workgroupBarrier();
    return largest;
}
