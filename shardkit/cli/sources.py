"""The commands over the catalog: `sources`, `sources show`, `sources check`.

Here: their options.
Elsewhere: the entries (shardkit.spec.catalog), their texts (shardkit.report.catalog), comparing them with their hosts
(shardkit.sources.check).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from shardkit.cli.options import CatalogOption, JsonOption, named, show
from shardkit.errors import SpecError

if TYPE_CHECKING:
    from shardkit.spec.catalog.entry import Entry

app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode="rich")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="An entry's name, or its id as its host has it.")]
GroupOption = Annotated[
    str, typer.Option(help="text, preference, chat, vision, audio, video, benchmark, repository. Several with commas.")
]
ModalityOption = Annotated[str, typer.Option(help="text (no media), image, audio, video. Several with commas.")]
LicenceOption = Annotated[
    str, typer.Option(help="Class: free, share-alike, non-commercial, research, unknown. Several with commas.")
]
StateOption = Annotated[str, typer.Option(help="available, gated, gone, metadata-only. Several with commas.")]
PriorityOption = Annotated[str, typer.Option(help="0 (first) to 4, or a range such as 0-2.")]


@app.callback()
def sources(
    context: typer.Context,
    group: GroupOption = "",
    modality: ModalityOption = "",
    licence: LicenceOption = "",
    state: StateOption = "",
    priority: PriorityOption = "",
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

    wanted, _, variant = named(name, "NAME").partition(":")
    entry = find_entry(wanted, catalog_folders(catalog))
    if variant and variant not in entry.variants:
        known = ", ".join(entry.variants) or "none"
        raise SpecError(f"the entry {entry.name} has no variant {variant!r}; there are: {known}")
    show(msgspec.json.encode(entry_json(entry)).decode() if as_json else entry_text(entry))


@app.command("check")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Entries, or NAME:VARIANT; none: those of the filters."),
    ] = None,
    group: GroupOption = "",
    modality: ModalityOption = "",
    licence: LicenceOption = "",
    state: StateOption = "",
    priority: PriorityOption = "",
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open entries at their hosts, over the network, and report what differs from the catalog.

    Compared are the id, gate, licence, configs, splits, rows and columns, as far as the host tells them. Exit 4 where
    something differs, 3 where a host did not answer.

    Example: shardkit sources check hh-rlhf slimorca

    Example: shardkit sources check --priority 0-4
    """
    from shardkit.sources.check.entry import check_all
    from shardkit.spec.catalog.choose import Choice, choose
    from shardkit.spec.catalog.folder import catalog_folders, find_entry, load_catalog

    folders = catalog_folders(catalog)
    choice = Choice(group=group, modality=modality, licence=licence, state=state, priority=priority)
    if not names and choice == Choice():
        raise SpecError("nothing to check; name entries, or choose some by a filter (--priority 0-4 takes all)")
    wanted: list[tuple[Entry, str]] = [
        (find_entry(named(name.partition(":")[0], "NAME"), folders), name.partition(":")[2]) for name in names or ()
    ]
    wanted += [(entry, "") for entry in choose(load_catalog(folders), choice)] if choice != Choice() else []
    code = 0
    for checked in check_all(wanted):
        show(msgspec.json.encode(checked).decode() if as_json else checked.text())
        code = 4 if checked.differences or code == 4 else 3 if checked.failed or code == 3 else 0
    if code:
        raise typer.Exit(code)
