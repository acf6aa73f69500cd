//! What the design promises of every policy.

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};

use crate::cases;
use crate::generate::{exception, fence, flows, policy};
use crate::model::{PolicyModel, Word};
use crate::subject::Subject;
use crate::yaml::{Order, documents};

/// A policy and its documents in another order, rules and all.
fn shuffled() -> impl Strategy<Value = (PolicyModel, Vec<String>)> {
    policy().prop_flat_map(|policy| {
        let documents = documents(&policy, Order::Backwards);
        (Just(policy), Just(documents).prop_shuffle())
    })
}

/// A policy and an exception to one of its fences.
fn with_exception() -> impl Strategy<Value = (PolicyModel, PolicyModel)> {
    policy().prop_flat_map(|policy| {
        let fences = policy.fences.len();
        (Just(policy), exception(fences)).prop_map(|(before, exception)| {
            let mut after = before.clone();
            after.exceptions.push(exception);
            (before, after)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_files_and_of_rules_does_not_matter((policy, other) in shuffled(), flows in flows()) {
        let (Some(a), Some(b)) = (Subject::of(&policy), Subject::of_documents(&other)) else { return Ok(()) };
        for flow in &flows {
            prop_assert_eq!(a.answer(flow), b.answer(flow), "{:?}", flow);
            prop_assert_eq!(a.decision(flow), b.decision(flow), "{:?}", flow);
        }
    }

    #[test]
    fn one_file_of_all_documents_is_the_same_policy((policy, other) in shuffled(), flows in flows()) {
        let joined = [other.join("---\n")];
        let (Some(a), Some(b)) = (Subject::of(&policy), Subject::of_documents(&joined)) else { return Ok(()) };
        for flow in &flows {
            prop_assert_eq!(a.answer(flow), b.answer(flow), "{:?}", flow);
        }
    }

    #[test]
    fn adding_a_fence_never_turns_block_into_allow(policy in policy(), more in fence(), flows in flows()) {
        let mut wider = policy.clone();
        wider.fences.push(more);
        let (Some(before), Some(after)) = (Subject::of(&policy), Subject::of(&wider)) else { return Ok(()) };
        for flow in &flows {
            let (before, after) = (before.answer(flow), after.answer(flow));
            prop_assert!(before.enforced == Word::Allow || after.enforced == Word::Block, "{:?}", flow);
            prop_assert!(before.would_be == Word::Allow || after.would_be == Word::Block, "{:?}", flow);
        }
    }

    #[test]
    fn an_audit_fence_never_changes_what_is_enforced(policy in policy(), more in fence(), flows in flows()) {
        let mut wider = policy.clone();
        wider.fences.push(more);
        wider.fences.last_mut().expect("just added").enforce = false;
        let (Some(before), Some(after)) = (Subject::of(&policy), Subject::of(&wider)) else { return Ok(()) };
        for flow in &flows {
            prop_assert_eq!(before.answer(flow).enforced, after.answer(flow).enforced, "{:?}", flow);
        }
    }

    #[test]
    fn an_exception_opens_only_its_fence_and_only_in_its_window((before, after) in with_exception(), flows in flows()) {
        let exception = after.exceptions.last().expect("just added").clone();
        let name = format!("f{}", exception.fence);
        let (Some(a), Some(b)) = (Subject::of(&before), Subject::of(&after)) else { return Ok(()) };
        for flow in &flows {
            let (a, b) = (a.answer(flow), b.answer(flow));
            let begun = exception.not_before.is_none_or(|from| flow.at >= from * 1_000_000_000);
            let open = begun && flow.at < exception.expires_at * 1_000_000_000;
            prop_assert_eq!(a.says.len(), b.says.len());
            for (a, b) in a.says.iter().zip(&b.says) {
                if a.verdict != b.verdict {
                    prop_assert!(open && a.fence == name && b.verdict == Word::Allow, "{:?} {:?} {:?}", flow, a, b);
                }
                if !open || a.fence != name {
                    prop_assert_eq!(a, b, "{:?}", flow);
                }
            }
        }
    }

    /// The kernel caches a decision until then: it must be the next moment at which anything changes, or before it.
    #[test]
    fn a_decision_holds_until_the_moment_it_names(policy in policy(), flows in flows()) {
        let Some(subject) = Subject::of(&policy) else { return Ok(()) };
        for flow in &flows {
            let now = subject.decision(flow);
            if now.until == u64::MAX {
                continue;
            }
            let left = i64::try_from(now.until - subject.boot_ns(flow)).expect("within the tests' span");
            prop_assert!(left > 0);
            for later in [left / 2, left - 1] {
                let then = subject.decision(&crate::model::FlowModel { at: flow.at + later, ..*flow });
                prop_assert_eq!(now.enforced, then.enforced, "{:?} {}", flow, later);
                prop_assert_eq!(now.outcome, then.outcome, "{:?} {}", flow, later);
            }
        }
    }
}
