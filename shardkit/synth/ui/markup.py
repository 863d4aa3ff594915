"""A page as HTML and CSS: the same texts, colours and structure as the picture.

Here: the document, its few rules, and one function for each kind of body.
Elsewhere: painting (paint, bodies).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from shardkit.synth.ui.page import Dashboard, Login, Page, Pricing, Products, Settings, Table


def page_html(page: Page) -> str:
    """A complete document without scripts or links."""
    colours = page.colours
    rules, body = _BODIES[type(page.body)](page.body)
    nav = "".join(f"<a>{escape(entry)}</a>" for entry in page.nav)
    style = [
        f"body{{margin:0;font-family:sans-serif;background:{colours['ground']};color:{colours['text']}}}",
        f"header{{display:flex;justify-content:space-between;align-items:center;height:64px;padding:0 20px;"
        f"background:{colours['accent']};color:{colours['on_accent']}}}",
        "h1{font-size:22px}",
        "nav a{margin-left:20px;font-size:13px}",
        "main{padding:20px}",
        *(_filled(rule, colours) for rule in rules),
    ]
    return "\n".join([
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title><style>',
        *style,
        "</style></head><body>",
        f"<header><h1>{escape(page.title)}</h1><nav>{nav}</nav></header>",
        "<main>",
        *body,
        "</main></body></html>",
    ])  # fmt: skip


PANEL = "background:@panel;border:1px solid @line;border-radius:6px"
BUTTON = "button{background:@accent;color:@on_accent;border:0;border-radius:5px;padding:8px 16px}"
ROW = ".row{display:flex;gap:14px}"
Part = tuple[tuple[str, ...], list[str]]


def _filled(rule: str, colours: dict[str, str]) -> str:
    """A rule with colours in place of @roles; longer names first, for `@line` begins no other."""
    for role in sorted(colours, key=len, reverse=True):
        rule = rule.replace(f"@{role}", colours[role])
    return rule


def _login(body: Login) -> Part:
    rules = (
        f"form{{width:240px;margin:auto;padding:22px 24px;{PANEL}}}",
        "label{display:block;font-size:12px;color:@faint}",
        "input{width:100%;height:26px;background:@ground;border:1px solid @line}",
        BUTTON,
    )
    fields = [
        f'<label>{escape(label)}<input type="{"password" if label == "Password" else "text"}"></label>'
        for label in body.fields
    ]
    return rules, ["<form>", *fields, f"<button>{escape(body.button)}</button>", "</form>"]


def _dashboard(body: Dashboard) -> Part:
    rules = (
        ROW,
        f".card,.chart{{flex:1;padding:14px;{PANEL}}}",
        ".card small{color:@faint}.card b{display:block;font-size:24px}",
        ".chart{display:flex;align-items:flex-end;gap:8px;height:180px;margin-top:14px}",
        ".chart i{flex:1;background:@accent}",
    )
    cards = [f'<div class="card"><small>{escape(name)}</small><b>{value}</b></div>' for name, value in body.cards]
    bars = "".join(f'<i style="height:{percent}%"></i>' for percent in body.bars)
    return rules, ['<div class="row">', *cards, "</div>", f'<div class="chart">{bars}</div>']


def _table(body: Table) -> Part:
    rules = (
        f"table{{width:100%;border-collapse:collapse;{PANEL}}}",
        "th,td{height:36px;padding:0 16px;text-align:left;border-bottom:1px solid @line}",
        "th{color:@faint}",
    )
    return rules, [
        "<table>",
        _row("th", body.columns),
        *(_row("td", row) for row in body.rows),
        "</table>",
    ]


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _pricing(body: Pricing) -> Part:
    rules = (
        ROW,
        f".plan{{flex:1;padding:16px;text-align:center;{PANEL}}}",
        ".plan b{display:block;font-size:30px}.plan p{color:@faint;font-size:13px}",
        BUTTON,
    )
    plans = [
        f'<div class="plan"><h2>{escape(name)}</h2><b>${price}</b>'
        + "".join(f"<p>{escape(feature)}</p>" for feature in features)
        + "<button>Choose</button></div>"
        for name, price, features in body.plans
    ]
    return rules, ['<div class="row">', *plans, "</div>"]


def _settings(body: Settings) -> Part:
    rules = (
        f"ul{{list-style:none;margin:0 0 14px;padding:0;{PANEL}}}",
        "li{display:flex;justify-content:space-between;padding:12px 16px;border-bottom:1px solid @line}",
        "input{accent-color:@accent}",
        BUTTON,
    )
    toggles = [
        f'<li>{escape(label)}<input type="checkbox" role="switch"{" checked" if on else ""}></li>'
        for label, on in body.toggles
    ]
    return rules, ["<ul>", *toggles, "</ul>", f"<button>{escape(body.button)}</button>"]


def _products(body: Products) -> Part:
    across = 3 if len(body.goods) != 4 else 2
    rules = (
        f".grid{{display:grid;grid-template-columns:repeat({across},1fr);gap:14px}}",
        f".item{{padding:12px;{PANEL}}}",
        ".item i{display:block;width:52px;height:52px;margin:20px auto;border-radius:50%;background:@accent}",
        ".item span{float:right;color:@faint}",
    )
    goods = [f'<div class="item"><i></i>{escape(name)}<span>${price}</span></div>' for name, price in body.goods]
    return rules, ['<div class="grid">', *goods, "</div>"]


_BODIES: dict[type, Callable[[Any], Part]] = {
    Login: _login,
    Dashboard: _dashboard,
    Table: _table,
    Pricing: _pricing,
    Settings: _settings,
    Products: _products,
}
