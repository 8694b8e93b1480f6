"""What every picture must be like."""

import matplotlib.image


def saved(figure, path):
    """Save, and check that it is a picture in which no text leaves the page."""
    figure.savefig(path)
    pixels = matplotlib.image.imread(path)
    assert path.stat().st_size > 5_000
    assert pixels.std() > 0.02
    page, drawn = figure.bbox_inches, figure.get_tightbbox(figure.canvas.get_renderer())
    assert drawn.x0 >= page.x0 - 0.01
    assert drawn.x1 <= page.x1 + 0.01
    assert drawn.y0 >= page.y0 - 0.01
    assert drawn.y1 <= page.y1 + 0.01
