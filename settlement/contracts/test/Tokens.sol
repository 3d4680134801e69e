// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token of any decimals that anyone may make, and that can be told to misbehave.
contract TestToken is ERC20 {
    error Blocked(address account);

    uint8 private immutable _decimals;
    uint256 public feePercent;
    bool public stopped;
    bool public refusesSilently;
    mapping(address account => bool) public blocked;
    address public hook;
    bytes public hookData;
    bool public hookSucceeded;

    constructor(uint8 decimals_) ERC20("Test", "TEST") {
        _decimals = decimals_;
    }

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function burn(address account, uint256 amount) external {
        _burn(account, amount);
    }

    function setFeePercent(uint256 percent) external {
        feePercent = percent;
    }

    function setBlocked(address account, bool isBlocked) external {
        blocked[account] = isBlocked;
    }

    function setRefusesSilently(bool refuses) external {
        refusesSilently = refuses;
    }

    /// @notice Calls `target` with `data` in the middle of the next transfers.
    function setHook(address target, bytes calldata data) external {
        hook = target;
        hookData = data;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function transfer(address to, uint256 amount) public virtual override returns (bool) {
        if (blocked[to]) revert Blocked(to);
        if (hook != address(0)) (hookSucceeded,) = hook.call(hookData);
        if (refusesSilently) return false;
        uint256 fee = (amount * feePercent) / 100;
        if (fee > 0) _burn(msg.sender, fee);
        return super.transfer(to, amount - fee);
    }
}

/// @notice What a dollar behind a proxy costs: one switch is read before each transfer.
contract StoppableToken is ERC20 {
    error Stopped();

    bool public stopped;

    constructor() ERC20("Stoppable", "STOP") {}

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (stopped) revert Stopped();
        super._update(from, to, amount);
    }
}
