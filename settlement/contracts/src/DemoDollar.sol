// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/**
 * @title DemoDollar
 * @notice A token of 6 decimals without any value, for development chains: its owner makes as much as a demo needs. As
 * with the dollars that are worth one, a holder can approve and send by signature (EIP-2612, EIP-3009).
 */
contract DemoDollar is ERC20Permit, ERC3009, Ownable {
    constructor(address owner) ERC20("Demo Dollar", "DEMO") ERC20Permit("Demo Dollar") Ownable(owner) {}

    /// @notice Makes `amount` token units for `recipient`. For the owner.
    function mint(address recipient, uint256 amount) external onlyOwner {
        _mint(recipient, amount);
    }

    /// @notice 6, as the dollars that are worth one.
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
