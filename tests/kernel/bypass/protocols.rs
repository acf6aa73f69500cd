use super::{Row, rows_of};

pub(super) fn rows() -> Vec<Row> {
    rows_of(file!(), [])
}
