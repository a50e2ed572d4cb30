//! Inputs of several parts: a seed is files, one after the other.

/// What stands between two parts.
const SEPARATOR: &[u8] = b"\n--8<--\n";

/// The first parts of an input; those that are missing are empty.
pub fn of<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|at| {
        let Some(all) = rest else { return &[][..] };
        let end = all.windows(SEPARATOR.len()).position(|it| it == SEPARATOR);
        let (part, next) = match end {
            Some(end) if at + 1 < N => (&all[..end], Some(&all[end + SEPARATOR.len()..])),
            _ => (all, None),
        };
        rest = next;
        part
    })
}
