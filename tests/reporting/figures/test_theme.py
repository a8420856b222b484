from al_lab.reporting.figures.theme import color_of, marker_of


def test_the_first_variant_keeps_its_strategys_color_and_the_others_differ():
    labels = ["al_ssl (csd)", "al_ssl (csd, tau=0.5)", "random (supervised)", "random (csd)", "mine"]
    strategies = [label.split(" ")[0] for label in labels]
    colors = [color_of(s, label, labels) for s, label in zip(strategies, labels, strict=True)]
    assert (colors[0], colors[2]) == (color_of("al_ssl"), color_of("random"))
    assert len(set(colors)) == 5
    assert marker_of("random", "random (supervised)", labels) == marker_of("random")
