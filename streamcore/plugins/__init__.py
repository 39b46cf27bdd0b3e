"""Which classes may become nodes, and what they declare, without running any of their code in the process that asks.

`policy` decides by names alone who may load. `manifests` tells what the admitted ones declare: from the `cache`, or read by a `child`
process that `reading` starts. `loading` imports a class: in that child and in the process of a node, nowhere else.

A plugin is named by what an installed package registered in the entry-point group `streamcore.nodes` (`video.file`), or by
`package.module:Class` if its package was allowed. The rules prevent mistakes; they are no sandbox: importing a module runs it.
"""

from __future__ import annotations

from streamcore.plugins.loading import check_shape, load_target
from streamcore.plugins.naming import PluginRefused

__all__ = ["PluginRefused", "check_shape", "load_target"]
