"""Ask SimGrid for the ends of every case, keep them, and print how far ours are from them: `make referee` runs this."""

from referee_cases import NAMES, ask_simgrid, draw_case, keep, kept_path
from referee_ours import BULK, FLOW, judged_in, largest_difference, our_ends_s

RUNS = 3  # SimGrid's time is the least of these


def main() -> None:
    """Keep the data and print the table of docs/referee.md."""
    print(
        f"| case | flows | ends from, s | to, s | SimGrid took, ms | {BULK}: differs by at most | {FLOW}: by at most |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in NAMES:
        case = draw_case(name)
        verdicts = [ask_simgrid(case) for _ in range(RUNS)]
        end_s = verdicts[0].end_s
        keep(case, end_s)
        wall_ms = 1e3 * min(verdict.wall_s for verdict in verdicts)
        found = {judged: f"{largest_difference(our_ends_s(name, judged), end_s):.1e}" for judged in judged_in(name)}
        print(
            f"| {name} | {len(case.pairs):,} | {end_s.min():.3g} | {end_s.max():.3g} | {wall_ms:,.1f} "
            f"| {found.get(BULK, 'not run')} | {found[FLOW]} |",
            flush=True,
        )
    print(f"kept {sum(kept_path(name).stat().st_size for name in NAMES):,} bytes in {len(NAMES)} files")


if __name__ == "__main__":
    main()
