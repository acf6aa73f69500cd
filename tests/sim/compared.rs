//! The image against the design's text.

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use crate::cases;
use crate::generate::{flows, policy};
use crate::naive::answer;
use crate::subject::Subject;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(150), failure_persistence: None, ..ProptestConfig::default() })]

    /// Verdicts, would-be verdicts, and for each fence what decided: by every hook's own `decide`.
    #[test]
    fn compiled_policy_says_what_the_design_says(policy in policy(), flows in flows()) {
        let Some(subject) = Subject::of(&policy) else { return Ok(()) };
        for flow in &flows {
            prop_assert_eq!(subject.answer(flow), answer(&policy, flow), "{:?}", flow);
        }
    }
}
