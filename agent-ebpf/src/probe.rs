//! Test-only programs: the production parser, index and verdict behind `BPF_PROG_TEST_RUN`, with the production maps.
