"""What was used and what people were asked for, of points as of images."""

from types import SimpleNamespace

from al_lab.reporting.sections.asked import asked_table, asked_words

RUN = SimpleNamespace(config={"oracle": {"seconds_per_pixel": 3.6, "seconds_per_map": 3600.0}})
CLICKS = {"images": 0, "pixels": 160, "clicks": 160, "asked_images": 0, "asked_clicks": 100, "asked_hours": 0.1}
MAPS = {"images": 3, "pixels": 900, "asked_images": 2, "asked_maps": 1.5, "asked_hours": 1.5, "timed_images": 0}


def test_points_that_were_named_before_are_used_and_nobody_was_asked():
    words = asked_words(RUN, [CLICKS])
    assert words.startswith(
        "The run uses 160 named points and squares; people were asked for 100 of them, the other 60"
    )
    assert "6 min" in words and "nobody measured" in words and "labeled images" not in words
    table = asked_table(RUN, {"0": CLICKS})
    last = dict(zip(table.columns, table.rows[-1], strict=True))
    assert (last["clicks used"], last["clicks asked for"], last["minutes assumed"]) == (160, 100, 6.0)


def test_label_maps_take_their_own_rate_by_their_share():
    assert "people were asked for 2 of them, the other 1" in asked_words(RUN, [MAPS])
    table = asked_table(RUN, {"initial": MAPS, "0": CLICKS})
    last = dict(zip(table.columns, table.rows[-1], strict=True))
    assert (last["images used"], last["clicks used"], round(last["minutes assumed"], 6)) == (3, 160, 96.0)
