"""Every configuration file builds what it describes."""

import sys
from pathlib import Path

import pytest

from data.datamodule import PanopticDataModule
from efficientps.module import EfficientPSModule
from efficientps.train_net import EfficientPSCLI

REPOSITORY = Path(__file__).parents[1]
EFFICIENTPS = sorted((REPOSITORY / "configs" / "efficientps").glob("*.yaml"))


@pytest.mark.parametrize("config", EFFICIENTPS, ids=lambda p: p.stem)
def test_an_efficientps_config_builds_network_data_and_trainer(config, streets, tmp_path, monkeypatch):
    arguments = ["--config", config, "--data-root", streets, "--output", tmp_path, "--trainer.accelerator", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *(str(a) for a in arguments)])
    cli = EfficientPSCLI(EfficientPSModule, PanopticDataModule, run=False, save_config_callback=None)
    cli.datamodule.setup("fit")
    assert len(cli.datamodule.train_set) == 2
    assert config.stem.split("_")[1] == cli.model.hparams["network"]["variant"]
    assert config.stem.endswith("maskrcnn") == cli.datamodule.has_instances == cli.model.has_instances
