"""How good a network is: PSNR and SSIM on synthetic bursts, against baselines, and on scenes
that go wrong in the field.
"""
