"""The commands over the catalog: `sources`, `sources show`, `sources check`.

Here: their options.
Elsewhere: the entries (shardkit.spec.catalog), their texts (shardkit.report.catalog), comparing one with its host
(shardkit.sources.check).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from shardkit.cli.options import CatalogOption, JsonOption, named, show

app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode="rich")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="An entry's name, or its id as its host has it.")]
_filter = "Several with commas."


@app.callback()
def sources(
    context: typer.Context,
    group: Annotated[
        str,
        typer.Option(help=f"text, preference, chat, vision, audio, video, benchmark, repository. {_filter}"),
    ] = "",
    modality: Annotated[str, typer.Option(help=f"text (no media), image, audio, video. {_filter}")] = "",
    licence: Annotated[
        str, typer.Option(help=f"Class: free, share-alike, non-commercial, research, unknown. {_filter}")
    ] = "",
    state: Annotated[str, typer.Option(help=f"available, gated, gone, metadata-only. {_filter}")] = "",
    priority: Annotated[str, typer.Option(help="0 (first) to 4, or a range such as 0-2.")] = "",
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the catalog: public datasets, benchmarks and repositories with what is known of them.

    Example: shardkit sources --modality audio --licence free --priority 0-2
    """
    from shardkit.report.catalog import catalog_table, entry_json
    from shardkit.spec.catalog.choose import Choice, choose
    from shardkit.spec.catalog.folder import catalog_folders, load_catalog

    if context.invoked_subcommand is not None:
        return
    choice = Choice(group=group, modality=modality, licence=licence, state=state, priority=priority)
    chosen = choose(load_catalog(catalog_folders(catalog)), choice)
    if not as_json:
        show(catalog_table(chosen))
    for entry in chosen if as_json else ():
        show(msgspec.json.encode(entry_json(entry)).decode())


@app.command("show")
def show_one(name: NameArgument, catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """Explain one entry: what is known and what is not, what its licence means, how to build it.

    Example: shardkit sources show hh-rlhf
    """
    from shardkit.report.catalog import entry_json, entry_text
    from shardkit.spec.catalog.folder import catalog_folders, find_entry

    entry = find_entry(named(name, "NAME").partition(":")[0], catalog_folders(catalog))
    show(msgspec.json.encode(entry_json(entry)).decode() if as_json else entry_text(entry))


@app.command("check")
def check(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Entries, or NAME:VARIANT.")],
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open entries at their hosts, over the network, and report what differs from the catalog. Exit 4 if anything does.

    Compared are the id, licence, gate, configs, splits, rows and columns, as far as the host tells them.

    Example: shardkit sources check hh-rlhf slimorca
    """
    from shardkit.sources.check.entry import check_entry
    from shardkit.spec.catalog.folder import catalog_folders, find_entry

    folders = catalog_folders(catalog)
    wanted = [(find_entry(named(name.partition(":")[0], "NAME"), folders), name.partition(":")[2]) for name in names]
    differs = False
    for entry, variant in wanted:
        checked = check_entry(entry, variant)
        differs |= bool(checked.differences)
        show(msgspec.json.encode(checked).decode() if as_json else checked.text())
    if differs:
        raise typer.Exit(4)
