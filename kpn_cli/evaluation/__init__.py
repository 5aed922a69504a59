"""Quality of a network: PSNR and SSIM on synthetic bursts against baselines, and stress scenes."""
