"""A model's shape from the `config.json` that Hugging Face keeps in the folder of its weights.

- `sim.scenario.hf_config.read`: the file, its checks, and what is taken where the file leaves a choice.
- `sim.scenario.hf_config.architectures`: one entry for each `model_type`, which says what the keys of its configs mean.
- `sim.scenario.hf_config.llama_like`: readers of families in the shape of Llama or Mixtral with other names.
- `sim.scenario.hf_config.parts`: parts of a model that several families name alike.
- `sim.scenario.hf_config.unknown`: the section `model:` that comes nearest to a config of no known `model_type`.
- `sim.scenario.hf_config.keys`: reads one key after another, and finds those that nobody has read.
- `sim.scenario.hf_config.immaterial`: keys that change neither time nor memory, by meaning.
- `sim.scenario.hf_config.names`: what fields of the model are called in configs.
"""

from sim.scenario.hf_config.architectures import ARCHITECTURES
from sim.scenario.hf_config.read import HfModel, TakenValue, read_hf_config

__all__ = ["ARCHITECTURES", "HfModel", "TakenValue", "read_hf_config"]
