from pathlib import Path

from al_lab.campaign.publish import image_folders


def test_a_report_of_a_campaign_shows_the_images_of_its_own_dataset():
    config = {
        "runtime": {"data_dir": "data"},
        "dataset": {
            "root": "photos",
            "source": {"root": "/drawn"},
            "image_dir": None,
            "name": "photos",
            "classes": ["a"],
        },
    }
    assert set(image_folders(config)) == {Path("data"), Path("photos"), Path("/drawn")}
    assert image_folders({}) == []
