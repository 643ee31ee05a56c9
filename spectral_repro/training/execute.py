"""One run, from its configuration to its end."""

import torch
from omegaconf import DictConfig

from spectral_repro.errors import first_line
from spectral_repro.training.build import (
    build_loggers,
    build_model,
    build_optimizer,
    build_schedule,
    build_weight_spectra,
    load_images,
)
from spectral_repro.training.divergence import Diverged
from spectral_repro.training.environment import choose_device, describe_device, describe_machine, git_state, versions
from spectral_repro.training.run import Run
from spectral_repro.training.trainer import Trainer

TORCH_THREADS = torch.get_num_threads()


def execute(config: DictConfig, name: str, overrides: list[str]) -> None:
    """Trains what the configuration describes, going on where an earlier attempt stopped; does nothing if it is over.

    Raises:
        UserError: for objects that cannot be built and data that cannot be read.
    """
    run = Run(config, name)
    if run.over:
        print(f"{run.folder}: {run.summary['state']} already; force=true runs it again")
        return
    threads = run.summary.get("threads") or config.trainer.threads or TORCH_THREADS
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    model = build_model(config).to(device, memory_format=memory_format)
    optimizer, schedule = build_optimizer(config, model), build_schedule(config)
    weights = build_weight_spectra(config, model)
    loggers = build_loggers(config)
    images = load_images(config)
    if config.trainer.compile:
        model.compile()

    run.open(config, overrides)
    run.update(
        threads=threads,
        device=describe_device(device),
        machine=describe_machine(device),
        versions=versions(*config.logger),
        git=git_state(),
        images={"train": len(images.train.labels), "test": len(images.test.labels)},
        notes=list(images.notes),
    )
    print(f"{run.folder}: {sum(p.numel() for p in model.parameters()):,} parameters on {run.summary['device']}", flush=True)
    try:
        Trainer(config, run, model, optimizer, schedule, weights, images, device, loggers).train()
    except Diverged as failure:
        run.update(state="diverged", failure=vars(failure))
        print(f"{run.folder}: {failure}")
    except KeyboardInterrupt:
        run.update(state="interrupted")
        print(f"{run.folder}: interrupted; the same command goes on from here")
        raise
    except Exception as error:
        run.update(state="failed", failure={"error": first_line(error)})
        raise
    finally:
        loggers.close()
