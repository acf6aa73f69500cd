//! What stands between the worker and the wire: each mode on a stage of its own, set up once and shown to work.

use agent_tests::agent::{Agent, Setup};
use anyhow::{Context, Result, bail};

use super::ground::{FEW, Ground};
use super::kernel::Kernel;
use super::nft::{self, Form};
use super::report::{Report, Row, Unit};
use super::stage::{SERVER_PROCESSOR, Stage};
use super::stats::Sample;
use super::sys;
use super::trie::Prefixes;
use super::worker::Order;

/// What stands between the worker and the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    None,
    /// Nothing, measured again.
    NoneAgain,
    /// A cgroup egress program that does nothing.
    Empty,
    /// The agent without a policy: flows are recorded.
    Observing,
    /// The agent with an enforcing fence over the whole world.
    Fence,
    /// The same, recording violations only.
    FenceQuiet,
    /// An LPM trie with the world in a small egress program.
    Trie,
    /// nftables, ranges joined.
    NftMerged,
    /// nftables, prefixes as they are.
    NftPrefixes,
}

/// In the order of a round.
pub(crate) const MODES: [Mode; 9] = [
    Mode::None,
    Mode::Empty,
    Mode::Observing,
    Mode::Fence,
    Mode::FenceQuiet,
    Mode::Trie,
    Mode::NftMerged,
    Mode::NftPrefixes,
    Mode::NoneAgain,
];

impl Mode {
    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoneAgain => "none, again",
            Self::Empty => "empty egress hook",
            Self::Observing => "ringfence, observing",
            Self::Fence => "ringfence, fence",
            Self::FenceQuiet => "ringfence, fence, --violations-only",
            Self::Trie => "LPM trie egress program",
            Self::NftMerged => "nftables, merged ranges",
            Self::NftPrefixes => "nftables, raw prefixes",
        }
    }
}

/// All stages, each with its mode for the whole run.
pub(crate) struct Stages {
    // Agents before stages: they detach before their cgroups go.
    pub(crate) agents: Vec<(Mode, Agent, Setup)>,
    pub(crate) kernel: Kernel,
    pub(crate) stages: Vec<(Mode, Stage)>,
}

impl Stages {
    /// Sets all stages.
    ///
    /// # Errors
    /// A mode can't be set up, or does not do what it stands for.
    pub(crate) fn set(ground: &Ground, report: &mut Report) -> Result<Self> {
        let targets = ground.allowed_targets()?;
        let (mut kernel, _maps) = Kernel::load()?;
        kernel.set_denied(ground)?;
        kernel.fill_tries(&Prefixes::v4(ground), &Prefixes::v6(ground))?;
        let mut all = Self { agents: Vec::new(), kernel, stages: Vec::new() };
        report.section("nftables: loading the country set (IPv4 only, one fence)");
        for mode in MODES {
            let stage = Stage::new(&targets).with_context(|| format!("the stage for {}", mode.name()))?;
            all.prepare(mode, stage, ground, report).with_context(|| format!("prepare {}", mode.name()))?;
        }
        Ok(all)
    }

    fn prepare(&mut self, mode: Mode, mut stage: Stage, ground: &Ground, report: &mut Report) -> Result<()> {
        match mode {
            Mode::None | Mode::NoneAgain => {}
            Mode::Empty => self.kernel.attach("peer_empty_egress", &stage.workload)?,
            Mode::Trie => self.kernel.attach("peer_trie_egress", &stage.workload)?,
            Mode::Observing => self.start(mode, Setup::new(&stage.root)?)?,
            Mode::Fence => self.start(mode, Setup::new(&stage.root)?.policy(&stage.fence())?)?,
            Mode::FenceQuiet => {
                let setup = Setup::new(&stage.root)?.policy(&stage.fence())?.arg("--violations-only");
                self.start(mode, setup)?;
            }
            Mode::NftMerged | Mode::NftPrefixes => {
                let form = if mode == Mode::NftMerged { Form::Merged } else { Form::Prefixes };
                let rules = nft::rules(ground, form, &stage);
                let took = nft::load(&rules, &stage)?;
                let what = format!("nft load, {} ({} elements)", mode.name(), rules.elements);
                report.row(Row::new(what, Unit::Milliseconds, Sample::one(took.as_secs_f64() * 1e3)));
            }
        }
        self.prove(mode, &mut stage, ground)?;
        self.stages.push((mode, stage));
        Ok(())
    }

    fn start(&mut self, mode: Mode, setup: Setup) -> Result<()> {
        let agent = setup.start()?;
        sys::pin_process(agent.pid(), SERVER_PROCESSOR)?;
        self.agents.push((mode, agent, setup));
        Ok(())
    }

    /// A mode that lets refused countries through would be cheap: each is shown to stop them, or not to.
    fn prove(&mut self, mode: Mode, stage: &mut Stage, ground: &Ground) -> Result<()> {
        let refused = ground.refused_targets()?;
        let allowed = ground.allowed_targets()?;
        let worker = stage.worker();
        worker.tell(&Order::Targets(refused[..FEW].to_vec()))?;
        let sent = worker.tell(&Order::Send { targets: FEW, for_ms: 1 });
        worker.tell(&Order::Targets(allowed))?;
        match mode {
            Mode::None | Mode::NoneAgain | Mode::Empty | Mode::Observing => sent.map(drop),
            // The kernel answers EPERM for what a cgroup program or an output chain drops.
            Mode::Fence | Mode::FenceQuiet | Mode::Trie => match sent {
                Ok(_) => bail!("{} lets datagrams to the United States pass", mode.name()),
                Err(_) => Ok(()),
            },
            Mode::NftMerged | Mode::NftPrefixes => nft::assert_drops(stage),
        }
    }
}
