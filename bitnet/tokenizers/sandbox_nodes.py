"""What is put into the syntax tree of a template, so that `sandbox` sees each of its steps."""

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class BoundSteps(NodeTransformer):
    """Make each turn of a loop look at the clock, and what builds values look at what it built."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node), lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _call("spend", [node], node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        self.generic_visit(node)
        return _built(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        return _built(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        return _built(node, [part for pair in node.items for part in (pair.key, pair.value)])


def _built(node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Expr:
    constant = all(isinstance(part, nodes.Const) for part in parts)
    return node if constant else _call("built", [node], node)


def _call(name: str, arguments: list[nodes.Expr], node: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(name, lineno=node.lineno)
    return nodes.Call(function, arguments, [], None, None, lineno=node.lineno)
